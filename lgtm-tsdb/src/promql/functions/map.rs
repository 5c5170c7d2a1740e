//! Functions of one float.

use std::f64::consts::PI;

/// A function of one float.
pub(crate) type FloatMap = fn(f64) -> f64;

/// The function of a name that maps each float of a vector. Histograms have no such value and are left out.
pub(crate) fn float_map(name: &str) -> Option<FloatMap> {
    Some(match name {
        "abs" => f64::abs,
        "acos" => f64::acos,
        "acosh" => f64::acosh,
        "asin" => f64::asin,
        "asinh" => f64::asinh,
        "atan" => f64::atan,
        "atanh" => f64::atanh,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "deg" => |v| v * 180.0 / PI,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "ln" => f64::ln,
        "log10" => f64::log10,
        "log2" => f64::log2,
        "rad" => |v| v * PI / 180.0,
        "sgn" => |v| match v {
            v if v > 0.0 => 1.0,
            v if v < 0.0 => -1.0,
            v => v,
        },
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        _ => return super::date::date_function(name),
    })
}

/// The lesser of two floats: NaN if one is, unless the other is -Inf.
pub(crate) fn minimum(a: f64, b: f64) -> f64 {
    match (a.is_nan() || b.is_nan(), a.min(b)) {
        (_, f64::NEG_INFINITY) => f64::NEG_INFINITY,
        (true, _) => f64::NAN,
        (false, least) => least,
    }
}

/// The greater of two floats: NaN if one is, unless the other is +Inf.
pub(crate) fn maximum(a: f64, b: f64) -> f64 {
    -minimum(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_win_over_nan_on_their_side() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        assert_eq!(minimum(nan, -inf), -inf);
        assert_eq!(maximum(inf, nan), inf);
        assert!(minimum(nan, inf).is_nan() && maximum(-inf, nan).is_nan());
        assert_eq!((minimum(1.0, 2.0), maximum(1.0, 2.0)), (1.0, 2.0));
    }
}
