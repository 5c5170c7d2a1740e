//! Stages of a pipeline.

use lgtm_core::re2::{Anchoring, Dot, Re2Groups};

use super::super::ast::{
    FieldPath, LabelFormat, LabelPick, LineFilter, LineFilterOp, LineOperand, LogfmtStage, Stage,
};
use super::super::error::ParseError;
use super::super::lexer::Token;
use super::super::pattern::Pattern;
use super::{Parser, Result};

impl Parser<'_> {
    /// All stages up to `unwrap`, a range or something that is no stage.
    pub(super) fn stages(&mut self) -> Result<Vec<Stage>> {
        let mut stages = Vec::new();
        loop {
            if stages.len() > self.settings.max_depth {
                return Err(ParseError::new(format!(
                    "query has more than {} stages (querier.parser.max_depth)",
                    self.settings.max_depth
                )));
            }
            if let Some(op) = self.line_filter_op() {
                stages.push(self.line_filter(op)?);
            } else if self.is_sign("|")
                && !matches!(self.peek_behind(1), Token::Word(w) if w == "unwrap")
            {
                self.at += 1;
                stages.push(self.stage()?);
            } else {
                return Ok(stages);
            }
        }
    }

    fn line_filter_op(&self) -> Option<LineFilterOp> {
        let Token::Sign(sign) = self.peek() else {
            return None;
        };
        Some(match *sign {
            "|=" => LineFilterOp::Contains,
            "|~" => LineFilterOp::Matches,
            "|>" => LineFilterOp::Pattern,
            "!~" => LineFilterOp::NotMatches,
            "!>" => LineFilterOp::NotPattern,
            "!=" => LineFilterOp::NotContains,
            _ => return None,
        })
    }

    fn line_filter(&mut self, op: LineFilterOp) -> Result<Stage> {
        self.at += 1;
        let mut operands = vec![self.line_operand()?];
        while self.is_word("or") {
            self.at += 1;
            operands.push(self.line_operand()?);
        }
        Ok(Stage::LineFilter(LineFilter { op, operands }))
    }

    fn line_operand(&mut self) -> Result<LineOperand> {
        if self.take_word("ip") {
            self.expect_sign("(")?;
            let range = self.text()?;
            self.expect_sign(")")?;
            return Ok(LineOperand::Ip(range));
        }
        match self.peek() {
            Token::Text(_) => self.text().map(LineOperand::Text),
            _ => Err(self.unexpected(&["STRING", "ip"])),
        }
    }

    /// What follows a `|`.
    fn stage(&mut self) -> Result<Stage> {
        let Token::Word(word) = self.peek() else {
            if self.begins_filter() {
                return self.label_filter(0).map(Stage::LabelFilter);
            }
            return Err(self.unexpected(&[]));
        };
        let word = word.clone();
        self.at += 1;
        match word.as_str() {
            "json" => self.fields().map(Stage::Json),
            "logfmt" => self.logfmt().map(Stage::Logfmt),
            "unpack" => Ok(Stage::Unpack),
            "decolorize" => Ok(Stage::Decolorize),
            "regexp" => {
                let pattern = self.text()?;
                check_regexp(&pattern)?;
                Ok(Stage::Regexp(pattern))
            }
            "pattern" => {
                let text = self.text()?;
                Pattern::parser(&text)
                    .map_err(|e| ParseError::new(format!("invalid pattern parser: {e}")))?;
                Ok(Stage::Pattern(text))
            }
            "line_format" => self.text().map(Stage::LineFormat),
            "label_format" => self.label_formats().map(Stage::LabelFormat),
            "drop" => self.label_picks().map(Stage::Drop),
            "keep" => self.label_picks().map(Stage::Keep),
            _ => {
                self.at -= 1;
                Err(self.unexpected(&[]))
            }
        }
    }

    fn logfmt(&mut self) -> Result<LogfmtStage> {
        let mut stage = LogfmtStage::default();
        while let Token::Flag(flag) = self.peek() {
            match *flag {
                "--strict" => stage.strict = true,
                _ => stage.keep_empty = true,
            }
            self.at += 1;
        }
        stage.fields = self.fields()?;
        Ok(stage)
    }

    /// `a="x", b`; there may be none.
    fn fields(&mut self) -> Result<Vec<FieldPath>> {
        let mut fields = Vec::new();
        if !matches!(self.peek(), Token::Name(_)) {
            return Ok(fields);
        }
        loop {
            let label = self.name()?;
            let path = if self.take_sign("=") {
                self.text()?
            } else {
                label.clone()
            };
            fields.push(FieldPath { label, path });
            if !self.take_sign(",") {
                return Ok(fields);
            }
        }
    }

    fn label_formats(&mut self) -> Result<Vec<LabelFormat>> {
        let mut formats = Vec::new();
        loop {
            let to = self.name()?;
            if !self.take_sign("=") {
                return Err(self.unexpected(&["="]));
            }
            formats.push(match self.peek() {
                Token::Text(_) => LabelFormat::Template {
                    to,
                    template: self.text()?,
                },
                Token::Name(_) => LabelFormat::Rename {
                    to,
                    from: self.name()?,
                },
                _ => return Err(self.unexpected(&["IDENTIFIER", "STRING"])),
            });
            if !self.take_sign(",") {
                return checked_formats(formats);
            }
        }
    }

    fn label_picks(&mut self) -> Result<Vec<LabelPick>> {
        let mut picks = Vec::new();
        loop {
            let name = self.name()?;
            picks.push(match self.peek() {
                Token::Sign("=" | "!=" | "=~" | "!~") => LabelPick::Matching(self.matcher(&name)?),
                _ => LabelPick::Name(name),
            });
            if !self.take_sign(",") {
                return Ok(picks);
            }
        }
    }
}

fn checked_formats(formats: Vec<LabelFormat>) -> Result<Vec<LabelFormat>> {
    for (n, format) in formats.iter().enumerate() {
        let to = format.target();
        let fault = if to == "__error__" {
            format!("{to} cannot be formatted")
        } else if formats[..n].iter().any(|f| f.target() == to) {
            format!("multiple label name '{to}' not allowed in a single format operation")
        } else {
            continue;
        };
        let stage = Stage::LabelFormat(formats);
        return Err(ParseError::new(format!("stage '{stage}' : {fault}")));
    }
    Ok(formats)
}

/// Whether an expression of the regexp parser has named groups, each name once.
fn check_regexp(text: &str) -> Result<()> {
    let fault = |why: String| ParseError::new(format!("invalid regexp parser: {why}"));
    let groups = Re2Groups::new(text, Anchoring::Anywhere, Dot::NotNewline)
        .map_err(|e| fault(format!("error parsing regexp: {e}")))?;
    let mut seen: Vec<&str> = Vec::new();
    for name in groups.names().filter(|n| !n.is_empty()) {
        if seen.contains(&name) {
            return Err(fault(format!("duplicate extracted label name '{name}'")));
        }
        seen.push(name);
    }
    if seen.is_empty() {
        Err(fault("at least one named capture must be supplied".into()))
    } else {
        Ok(())
    }
}
