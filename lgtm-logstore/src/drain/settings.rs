//! Bounds of templates.

use serde::{Deserialize, Serialize};

/// How templates are found. The numbers are Loki's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainSettings {
    /// Levels of the tree: lines whose first words, two fewer than this, differ have different templates. Default 30.
    pub depth: usize,
    /// The part of its words that a line must share with a template to belong to it, from 0 to 1. Default 0.3.
    pub similarity: f64,
    /// Different words at one place of the tree; further ones count as the same. Default 15.
    pub max_children: usize,
    /// Templates of one stream and level; for another one that which was not seen for longest goes. Default 300.
    pub max_templates: usize,
    /// Bytes of a line; longer ones are not looked at. Default 3000.
    pub max_line_bytes: usize,
    /// Words of a line; those with fewer are not looked at. Default 4.
    pub min_words: usize,
    /// Words of a line; those with more are not looked at. Default 80.
    pub max_words: usize,
    /// Steps of 10 seconds that counts are kept of. Default 1080: three hours.
    pub max_steps: usize,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self {
            depth: 30,
            similarity: 0.3,
            max_children: 15,
            max_templates: 300,
            max_line_bytes: 3000,
            min_words: 4,
            max_words: 80,
            max_steps: 1080,
        }
    }
}
