//! The templates of the lines of one stream and level.

use std::ops::Range;

use lgtm_core::model::{TimeRangeNs, TimestampNs};
use smallvec::SmallVec;

use super::counts::StepCounts;
use super::settings::DrainSettings;
use super::words::{LineWords, Word};

/// Where words differ.
const WILDCARD: &str = "<_>";
/// Stands for any word: no word has this hash.
const ANY: u64 = 0;
/// Levels of the tree that are not for words: the root and the templates.
const OTHER_LEVELS: usize = 2;

/// A place in the tree.
#[derive(Debug, Default)]
struct Node {
    /// By the hash of the next word, or of the frame.
    children: SmallVec<[(u64, u32); 2]>,
    /// Templates that end here, by number.
    templates: SmallVec<[u32; 2]>,
}

/// A template.
#[derive(Debug)]
struct Template {
    /// The line that it was made of.
    line: Box<[u8]>,
    frame: u64,
    words: Box<[TemplateWord]>,
    /// The node that it ends at.
    leaf: u32,
    counts: StepCounts,
    /// When it was seen last, by the count of lines.
    seen: u64,
}

#[derive(Debug, Clone)]
struct TemplateWord {
    place: Range<u32>,
    /// [`ANY`] where lines differ.
    hash: u64,
    has_digit: bool,
}

/// A template and how often it came in a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateCounts {
    /// The words that all lines share, `<_>` where they differ.
    pub pattern: String,
    /// Begin of each step of 10 seconds in which it came, nanoseconds, and lines; ascending.
    pub counts: Vec<(TimestampNs, u64)>,
}

/// Templates, found as lines come.
#[derive(Debug)]
pub struct LineTemplates {
    nodes: Vec<Node>,
    /// Some are free.
    templates: Vec<Option<Template>>,
    free: Vec<u32>,
    lines: u64,
    heap_bytes: usize,
}

impl Default for LineTemplates {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            templates: Vec::new(),
            free: Vec::new(),
            lines: 0,
            heap_bytes: 0,
        }
    }
}

impl LineTemplates {
    /// Counts a line for `count` lines like it. Lines that [`DrainSettings`] leave out do not count.
    pub fn add(
        &mut self,
        t_ns: TimestampNs,
        line: &[u8],
        count: u32,
        settings: &DrainSettings,
        words: &mut LineWords,
    ) {
        let bounds = settings.min_words..settings.max_words + 1;
        if line.len() > settings.max_line_bytes || !words.cut(line, bounds) {
            return;
        }
        self.lines += 1;
        let leaf = self.leaf(&words.words, words.frame, settings);
        let number = match self.most_like(leaf, &words.words, settings.similarity) {
            Some(number) => number,
            None => self.make(leaf, line, words, settings),
        };
        let lines = self.lines;
        if let Some(template) = &mut self.templates[number as usize] {
            for (own, word) in template.words.iter_mut().zip(&words.words) {
                if own.hash != word.hash {
                    own.hash = ANY;
                }
            }
            template.seen = lines;
            let before = template.counts.heap_bytes();
            template.counts.add(t_ns, count, settings.max_steps);
            self.heap_bytes += template.counts.heap_bytes().saturating_sub(before);
        }
    }

    /// Where the templates of lines stand that begin with these words.
    fn leaf(&mut self, words: &[Word], frame: u64, settings: &DrainSettings) -> u32 {
        let mut at = self.child(0, frame, usize::MAX);
        let levels = settings.depth.saturating_sub(OTHER_LEVELS);
        for word in words.iter().take(levels) {
            let hash = if word.has_digit { ANY } else { word.hash };
            at = self.child(at, hash, settings.max_children);
        }
        at
    }

    /// A child of a node; beyond `max` different ones, the one for any word.
    fn child(&mut self, of: u32, hash: u64, max: usize) -> u32 {
        let children = &self.nodes[of as usize].children;
        let find = |hash: u64| children.iter().find(|(h, _)| *h == hash).map(|(_, at)| *at);
        if let Some(known) = find(hash) {
            return known;
        }
        // The last place is for all that find none.
        let is_full = children.len() + 1 >= max;
        let hash = if is_full { ANY } else { hash };
        if let Some(known) = find(hash) {
            return known;
        }
        let made = self.nodes.len() as u32;
        self.nodes.push(Node::default());
        self.nodes[of as usize].children.push((hash, made));
        made
    }

    /// The template of a leaf that shares the most words with a line, if they are enough.
    fn most_like(&self, leaf: u32, words: &[Word], similarity: f64) -> Option<u32> {
        let mut best = None;
        for number in &self.nodes[leaf as usize].templates {
            let Some(template) = &self.templates[*number as usize] else {
                continue;
            };
            let pairs = template.words.iter().zip(words);
            let shared = pairs.filter(|(own, word)| own.hash == word.hash).count();
            if best.is_none_or(|(most, _)| shared > most) {
                best = Some((shared, *number));
            }
        }
        let (shared, number) = best?;
        let is_enough = shared as f64 >= similarity * words.len() as f64;
        is_enough.then_some(number)
    }

    fn make(&mut self, leaf: u32, line: &[u8], words: &LineWords, settings: &DrainSettings) -> u32 {
        let mut leaf = leaf;
        if self.len() >= settings.max_templates.max(1) {
            self.forget_oldest();
            // Nodes without templates are not looked for one by one.
            if self.nodes.len() > 2 * settings.max_templates * settings.depth.max(1) {
                self.rebuild(settings);
            }
            leaf = self.leaf(&words.words, words.frame, settings);
        }
        let own = words.words.iter().map(|w| TemplateWord {
            place: w.place.clone(),
            hash: w.hash,
            has_digit: w.has_digit,
        });
        let template = Template {
            line: line.into(),
            frame: words.frame,
            words: own.collect(),
            leaf,
            counts: StepCounts::default(),
            seen: self.lines,
        };
        self.heap_bytes += template.fixed_bytes();
        let number = self.free.pop().unwrap_or(self.templates.len() as u32);
        match self.templates.get_mut(number as usize) {
            Some(slot) => *slot = Some(template),
            None => self.templates.push(Some(template)),
        }
        self.nodes[leaf as usize].templates.push(number);
        number
    }

    fn forget_oldest(&mut self) {
        let all = self.templates.iter().enumerate();
        let seen = all.filter_map(|(n, t)| Some((t.as_ref()?.seen, n)));
        if let Some((_, number)) = seen.min() {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: usize) {
        let Some(gone) = self.templates[number].take() else {
            return;
        };
        let bytes = gone.fixed_bytes() + gone.counts.heap_bytes();
        self.heap_bytes = self.heap_bytes.saturating_sub(bytes);
        self.free.push(number as u32);
        let leaf = &mut self.nodes[gone.leaf as usize];
        leaf.templates.retain(|n| *n != number as u32);
    }

    /// Makes the tree anew, for the templates that there are.
    fn rebuild(&mut self, settings: &DrainSettings) {
        self.nodes = vec![Node::default()];
        for number in 0..self.templates.len() {
            let Some(template) = &self.templates[number] else {
                continue;
            };
            let words: Vec<Word> = template.words.iter().map(TemplateWord::as_word).collect();
            let leaf = self.leaf(&words, template.frame, settings);
            self.nodes[leaf as usize].templates.push(number as u32);
            if let Some(template) = &mut self.templates[number] {
                template.leaf = leaf;
            }
        }
    }

    /// Number of templates.
    pub fn len(&self) -> usize {
        self.templates.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what came before a time, and templates that did not come since.
    pub fn forget_before(&mut self, t_ns: TimestampNs, settings: &DrainSettings) {
        let mut gone = Vec::new();
        for (number, template) in self.templates.iter_mut().enumerate() {
            let Some(template) = template else { continue };
            let before = template.counts.heap_bytes();
            template.counts.forget_before(t_ns);
            let freed = before.saturating_sub(template.counts.heap_bytes());
            self.heap_bytes = self.heap_bytes.saturating_sub(freed);
            if template.counts.is_empty() {
                gone.push(number);
            }
        }
        let is_any_gone = !gone.is_empty();
        for number in gone {
            self.forget(number);
        }
        if is_any_gone {
            self.rebuild(settings);
        }
    }

    /// The templates that came in a range, and how often.
    pub fn within(&self, range: TimeRangeNs) -> impl Iterator<Item = TemplateCounts> {
        let all = self.templates.iter().flatten();
        all.filter_map(move |template| {
            let counts: Vec<_> = template.counts.within(range).collect();
            (!counts.is_empty()).then(|| TemplateCounts {
                pattern: template.pattern(),
                counts,
            })
        })
    }

    /// Heap bytes, nearly.
    pub fn heap_bytes(&self) -> usize {
        self.heap_bytes
            + self.nodes.capacity() * size_of::<Node>()
            + self.templates.capacity() * size_of::<Option<Template>>()
    }
}

impl Template {
    fn fixed_bytes(&self) -> usize {
        self.line.len() + self.words.len() * size_of::<TemplateWord>()
    }

    fn pattern(&self) -> String {
        let text = |range: Range<usize>| String::from_utf8_lossy(&self.line[range]);
        let mut out = String::with_capacity(self.line.len());
        let mut written = 0;
        for word in &self.words {
            let place = word.place.start as usize..word.place.end as usize;
            if word.hash == ANY {
                out.push_str(&text(written..place.start));
                out.push_str(WILDCARD);
                written = place.end;
            }
        }
        out.push_str(&text(written..self.line.len()));
        out
    }
}

impl TemplateWord {
    fn as_word(&self) -> Word {
        Word {
            place: self.place.clone(),
            hash: self.hash,
            has_digit: self.has_digit,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::counts::STEP_NS;
    use super::*;

    fn templates_of<'a>(
        lines: impl IntoIterator<Item = &'a str>,
        settings: &DrainSettings,
    ) -> (LineTemplates, BTreeMap<String, u64>) {
        let (mut templates, mut words) = (LineTemplates::default(), LineWords::default());
        for (n, line) in lines.into_iter().enumerate() {
            let t_ns = n as i64 * STEP_NS / 4;
            templates.add(t_ns, line.as_bytes(), 1, settings, &mut words);
        }
        let mut seen = BTreeMap::new();
        for t in templates.within(TimeRangeNs::ALL) {
            *seen.entry(t.pattern).or_default() += t.counts.iter().map(|c| c.1).sum::<u64>();
        }
        (templates, seen)
    }

    fn words(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(t, n)| ((*t).to_owned(), *n)).collect()
    }

    #[test]
    fn lines_that_differ_in_values_share_a_template() {
        let settings = DrainSettings::default();
        let lines: Vec<String> = (0..40)
            .map(|n| match n % 2 {
                0 => format!("ts=10:00:{n} level=info msg=\"GET /a/{n}\" took {n}ms"),
                _ => "connection to db-main closed: will retry".to_owned(),
            })
            .collect();
        let (templates, seen) = templates_of(lines.iter().map(String::as_str), &settings);
        let wanted = words(&[
            ("connection to db-main closed: will retry", 20),
            ("ts=<_> level=info msg=\"GET <_>\" took <_>", 20),
        ]);
        assert_eq!(seen, wanted);
        assert_eq!(templates.len(), 2);
    }

    #[test]
    fn further_words_at_a_place_count_as_the_same() {
        let settings = DrainSettings::default();
        let names: Vec<char> = ('a'..='z').collect();
        let lines: Vec<String> = names
            .iter()
            .map(|n| format!("user {n}{n} has logged in"))
            .collect();
        let (_, seen) = templates_of(lines.iter().map(String::as_str), &settings);
        assert_eq!(seen.len(), settings.max_children);
        assert_eq!(seen["user <_> has logged in"], 26 - 14);
    }

    #[test]
    fn short_long_and_wordy_lines_are_left_out() {
        let settings = DrainSettings::default();
        let long = format!("a b c d {}", "x".repeat(3000));
        let many = "w ".repeat(81);
        let (templates, seen) = templates_of(["a b c", "", &long, &many], &settings);
        assert!(seen.is_empty() && templates.is_empty());
    }

    #[test]
    fn the_template_not_seen_for_longest_goes() {
        let settings = DrainSettings {
            max_templates: 3,
            ..DrainSettings::default()
        };
        let lines = ["a a a a", "b b b b", "c c c c", "a a a a", "d d d d"];
        let (mut templates, seen) = templates_of(lines, &settings);
        let wanted = words(&[("a a a a", 2), ("c c c c", 1), ("d d d d", 1)]);
        assert_eq!(seen, wanted);
        templates.forget_before(STEP_NS, &settings);
        let left: Vec<_> = templates.within(TimeRangeNs::ALL).collect();
        assert_eq!(left.len(), 1, "{left:?}");
        templates.forget_before(i64::MAX, &settings);
        assert!(templates.is_empty());
        assert_eq!(templates.heap_bytes, 0);
    }

    #[test]
    fn memory_stays_within_bounds_whatever_comes() {
        let settings = DrainSettings::default();
        let (mut templates, mut words) = (LineTemplates::default(), LineWords::default());
        let mut state = 1u64;
        for n in 0..3_000 {
            let mut line = String::new();
            for _ in 0..40 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                line.extend((0..6).map(|b| char::from(b'a' + (state >> (20 + 5 * b)) as u8 % 26)));
                line.push(' ');
            }
            templates.add(n * STEP_NS, line.as_bytes(), 1, &settings, &mut words);
        }
        assert!(templates.len() <= settings.max_templates);
        let bytes = templates.heap_bytes();
        assert!(bytes < 4 << 20, "{bytes} bytes");
    }

    proptest::proptest! {
        #[test]
        fn any_lines_are_counted_once(lines in proptest::collection::vec("[ab1 =:é]{0,24}", 0..60)) {
            let settings = DrainSettings { max_templates: 1000, ..DrainSettings::default() };
            let (_, seen) = templates_of(lines.iter().map(String::as_str), &settings);
            let mut words = LineWords::default();
            let taken = lines.iter().filter(|l| words.cut(l.as_bytes(), 4..81)).count();
            proptest::prop_assert_eq!(seen.values().sum::<u64>(), taken as u64);
        }
    }
}
