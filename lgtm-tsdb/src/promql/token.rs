//! Tokens and the words for them in messages.

use lgtm_core::go::quote;

use super::ast::{AggregateOp, BinaryOp, Span};

/// Runes of a token that a message repeats.
const SHOWN_CHARS: usize = 10;

/// A token and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    End,
    /// The lexer knows what is wrong.
    Fault,
    Identifier,
    /// An identifier with a colon.
    MetricIdentifier,
    Number,
    Duration,
    /// With its quotes.
    Text,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Assign,
    /// `=~`
    MatchRegex,
    /// `!~`
    MatchNotRegex,
    /// `@`
    At,
    Binary(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
    Word(Word),
}

/// Words that change what stands beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Anchored,
    Bool,
    By,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Smoothed,
    Without,
}

/// Functions that a duration knows too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

/// What a word outside of braces is, whatever its case.
pub(super) fn reserved(word: &str) -> Option<TokenKind> {
    // The longest one has 12 letters; a name that is longer is not looked up.
    if word.len() > 12 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    if let Some(op) = AggregateOp::ALL.iter().find(|op| op.name() == word) {
        return Some(TokenKind::Aggregate(*op));
    }
    Some(match word.as_str() {
        "and" => TokenKind::Binary(BinaryOp::And),
        "or" => TokenKind::Binary(BinaryOp::Or),
        "unless" => TokenKind::Binary(BinaryOp::Unless),
        "atan2" => TokenKind::Binary(BinaryOp::Atan2),
        "anchored" => TokenKind::Keyword(Keyword::Anchored),
        "bool" => TokenKind::Keyword(Keyword::Bool),
        "by" => TokenKind::Keyword(Keyword::By),
        "fill" => TokenKind::Keyword(Keyword::Fill),
        "fill_left" => TokenKind::Keyword(Keyword::FillLeft),
        "fill_right" => TokenKind::Keyword(Keyword::FillRight),
        "group_left" => TokenKind::Keyword(Keyword::GroupLeft),
        "group_right" => TokenKind::Keyword(Keyword::GroupRight),
        "ignoring" => TokenKind::Keyword(Keyword::Ignoring),
        "offset" => TokenKind::Keyword(Keyword::Offset),
        "on" => TokenKind::Keyword(Keyword::On),
        "smoothed" => TokenKind::Keyword(Keyword::Smoothed),
        "without" => TokenKind::Keyword(Keyword::Without),
        "start" => TokenKind::Word(Word::Start),
        "end" => TokenKind::Word(Word::End),
        "inf" | "nan" => TokenKind::Number,
        other => return duration_word(other).map(TokenKind::Word),
    })
}

/// The words of a duration.
pub(super) fn duration_word(word: &str) -> Option<Word> {
    let known = [
        ("step", Word::Step),
        ("range", Word::Range),
        ("max_of", Word::MaxOf),
        ("min_of", Word::MinOf),
    ];
    let hit = known
        .iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name));
    hit.map(|(_, word)| *word)
}

impl TokenKind {
    /// Whether it may be a metric's name: most words are, where nothing else is meant.
    pub(super) fn is_metric_name(self) -> bool {
        match self {
            Self::Identifier | Self::MetricIdentifier | Self::Aggregate(_) | Self::Word(_) => true,
            Self::Binary(op) => op.is_set(),
            Self::Keyword(word) => !matches!(
                word,
                Keyword::Bool
                    | Keyword::GroupLeft
                    | Keyword::GroupRight
                    | Keyword::Ignoring
                    | Keyword::On
            ),
            _ => false,
        }
    }

    /// Whether it may be a label's name where labels are listed: every word is.
    pub(super) fn is_label_name(self) -> bool {
        self.is_metric_name() || matches!(self, Self::Keyword(_) | Self::Binary(BinaryOp::Atan2))
    }

    /// How a message calls a token with this text.
    pub(super) fn described(self, text: &str) -> String {
        match self {
            Self::End => "end of input".into(),
            Self::Fault => "error".into(),
            Self::Identifier => format!("identifier {}", quote(text)),
            Self::MetricIdentifier => format!("metric identifier {}", quote(text)),
            Self::Number => format!("number {}", shortened(text)),
            Self::Duration => format!("duration {}", shortened(text)),
            Self::Text => format!("string {}", shortened(text)),
            Self::Binary(_) | Self::At | Self::MatchRegex | Self::MatchNotRegex => {
                format!("<op:{text}>")
            }
            Self::Aggregate(_) => format!("<aggr:{text}>"),
            Self::Keyword(_) => format!("<{text}>"),
            _ => shortened(text),
        }
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= SHOWN_CHARS {
        return quote(text);
    }
    let end = text.char_indices().nth(SHOWN_CHARS);
    format!("{}...", quote(&text[..end.map_or(text.len(), |(n, _)| n)]))
}
