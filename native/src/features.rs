//! From a text to the numbers of its features: what `tamis/models/linear/features.py` does for many
//! texts at once in numpy, here for one text at a time. Both give the same numbers; a test compares them.

use crate::memory::Result;

/// Classes of a character, in the order of `tamis/ngrams.py`.
const SPACE: u8 = 0;
const UPPER: u8 = 2;
const DIGIT: u8 = 3;
const SYMBOL: u8 = 5;
const IDEOGRAPH: u8 = 6;
const N_CLASSES: usize = 7;

/// Blocks of features, each scaled on its own; `BLOCKS` of `tamis/models/linear/features.py`.
const WORDS: usize = 0;
const NGRAMS: usize = 1;
const SHAPES: usize = 2;
pub const N_BLOCKS: usize = 3;

const BASE: u64 = 0x9E37_79B9_7F4A_7C15;
const PAIR: u64 = 0xD6E8_FEB8_6659_FD93;
const FAMILY: u64 = 0xA076_1D64_78BD_642F;
const WORD: u64 = FAMILY;
const WORD_PAIR: u64 = FAMILY.wrapping_mul(2);
const NGRAM: u64 = FAMILY.wrapping_mul(3);
const SHAPE: u64 = FAMILY.wrapping_mul(4);
const SHAPE_PAIR: u64 = FAMILY.wrapping_mul(5);
const SIZES: [u64; 3] = [
    FAMILY.wrapping_mul(6),
    FAMILY.wrapping_mul(7),
    FAMILY.wrapping_mul(8),
];

const WORD_TRIPLE: u64 = FAMILY.wrapping_mul(9);
const NGRAM_ACROSS: u64 = FAMILY.wrapping_mul(10);

/// Characters of an n-gram across words.
const ACROSS: usize = 6;
const LONGEST_RUN: usize = 4;

/// The shape of each class: space, lower, upper, digit, letter, ideograph; a symbol is its own shape.
const SHAPE_OF_CLASS: [u32; N_CLASSES] = [
    ' ' as u32, 'x' as u32, 'X' as u32, 'd' as u32, 'u' as u32, 0, 'u' as u32,
];

/// Python's own tables of characters, so that both agree on every one of them.
pub struct Characters {
    /// Class of each code point; whatever lies beyond the table is like its last.
    pub classes: Vec<u8>,
    /// Code point in lower case; whatever lies beyond the table stays as it is.
    pub lower: Vec<u32>,
}

impl Characters {
    fn class_of(&self, code: u32) -> u8 {
        self.classes[(code as usize).min(self.classes.len() - 1)]
    }

    fn lower_of(&self, code: u32) -> u32 {
        *self.lower.get(code as usize).unwrap_or(&code)
    }
}

/// Which features a text is turned into.
pub struct Settings {
    pub ngram_min: usize,
    pub ngram_max: usize,
    pub word_pairs: bool,
    pub shapes: bool,
    pub phrases: bool,
    /// Whether the features fall into blocks and ideographs are words, as artifacts of format 2 have it.
    pub blocks: bool,
    /// Where the steps of a text's sizes begin, ascending.
    pub size_steps: Vec<u64>,
}

/// One text's characters in the forms that its features are made of; kept from text to text.
#[derive(Default)]
pub struct Workspace {
    classes: Vec<u8>,
    lower: Vec<u32>,
}

impl Settings {
    pub fn n_blocks(&self) -> usize {
        if self.blocks {
            N_BLOCKS
        } else {
            1
        }
    }

    /// Whether a character of this class is a word by itself.
    fn is_word(&self, class: u8) -> bool {
        class == SYMBOL || (self.blocks && class == IDEOGRAPH)
    }
}

/// Call `found` with the block and the mixed hash of every occurrence of a feature in `codes`, which begin
/// and end with a space.
pub fn for_each_hash(
    codes: &[u32],
    characters: &Characters,
    settings: &Settings,
    workspace: &mut Workspace,
    mut found: impl FnMut(usize, u64),
) -> Result<()> {
    workspace.classes.clear();
    workspace.lower.clear();
    workspace.classes.try_reserve(codes.len())?;
    workspace.lower.try_reserve(codes.len())?;
    for &code in codes {
        workspace.classes.push(characters.class_of(code));
        workspace.lower.push(characters.lower_of(code));
    }
    let (classes, lower) = (&workspace.classes[..], &workspace.lower[..]);
    words(lower, classes, settings, &mut found);
    ngrams(lower, classes, settings, &mut found);
    if settings.shapes {
        shapes(codes, classes, &mut found);
        sizes(classes, &settings.size_steps, &mut found);
    }
    if settings.phrases {
        ngrams_across(lower, classes, &mut found);
    }
    Ok(())
}

/// Runs of letters, digits and underscores, every other symbol by itself, pairs and threes of neighbours.
fn words(lower: &[u32], classes: &[u8], settings: &Settings, found: &mut impl FnMut(usize, u64)) {
    let (mut previous, mut two_before) = (None, None);
    let mut at = 0;
    while at < classes.len() {
        if classes[at] == SPACE {
            at += 1;
            continue;
        }
        let mut word = Polynomial::default();
        let is_single = settings.is_word(classes[at]);
        loop {
            word.push(lower[at]);
            at += 1;
            let ends = is_single
                || at == classes.len()
                || classes[at] == SPACE
                || settings.is_word(classes[at]);
            if ends {
                break;
            }
        }
        if let (true, Some(before)) = (settings.word_pairs, previous) {
            found(WORDS, mix(pair(before, word.sum).wrapping_add(WORD_PAIR)));
        }
        if let (true, Some(first), Some(second)) = (settings.phrases, two_before, previous) {
            found(
                WORDS,
                mix(pair(pair(first, second), word.sum).wrapping_add(WORD_TRIPLE)),
            );
        }
        found(WORDS, mix(word.sum.wrapping_add(WORD)));
        (two_before, previous) = (previous, Some(word.sum));
    }
}

/// The n-grams within what spaces divide, a space on either side counted as part of it.
fn ngrams(lower: &[u32], classes: &[u8], settings: &Settings, found: &mut impl FnMut(usize, u64)) {
    let mut start = 0;
    while start + 1 < classes.len() {
        let next = start
            + 1
            + classes[start + 1..]
                .iter()
                .take_while(|&&c| c != SPACE)
                .count();
        if next == classes.len() {
            return;
        }
        // a space that another follows begins nothing
        let first = if next == start + 1 { next } else { start };
        for from in first..next {
            let mut ngram = Polynomial::default();
            let most = settings.ngram_max.min(next + 1 - from);
            for (n, &code) in (1..).zip(&lower[from..from + most]) {
                ngram.push(code);
                if n >= settings.ngram_min {
                    found(NGRAMS, mix(ngram.sum.wrapping_add(NGRAM)));
                }
            }
        }
        start = next;
    }
}

/// Every run of characters with a blank inside, neither first nor last.
fn ngrams_across(lower: &[u32], classes: &[u8], found: &mut impl FnMut(usize, u64)) {
    for (codes, classes) in lower.windows(ACROSS).zip(classes.windows(ACROSS)) {
        if classes[1..ACROSS - 1].contains(&SPACE) {
            let mut ngram = Polynomial::default();
            codes.iter().for_each(|&code| ngram.push(code));
            found(NGRAMS, mix(ngram.sum.wrapping_add(NGRAM_ACROSS)));
        }
    }
}

/// Shapes of blank-separated tokens, runs cut at four, and pairs of neighbours.
fn shapes(codes: &[u32], classes: &[u8], found: &mut impl FnMut(usize, u64)) {
    let (mut previous, mut token) = (None, Polynomial::default());
    let (mut last, mut run) = (0, 0);
    for (&code, &class) in codes.iter().zip(classes) {
        let shape = match SHAPE_OF_CLASS[class as usize] {
            0 => code,
            of_class => of_class,
        };
        if class != SPACE {
            run = if shape == last { run + 1 } else { 1 };
            if run <= LONGEST_RUN {
                token.push(shape);
            }
        } else if token.power != 1 {
            if let Some(before) = previous {
                found(
                    SHAPES,
                    mix(pair(before, token.sum).wrapping_add(SHAPE_PAIR)),
                );
            }
            found(SHAPES, mix(token.sum.wrapping_add(SHAPE)));
            previous = Some(token.sum);
            token = Polynomial::default();
        }
        last = shape;
    }
}

/// Length, capitals and digits, each as the step that it falls into.
fn sizes(classes: &[u8], steps: &[u64], found: &mut impl FnMut(usize, u64)) {
    let count = |class| classes.iter().filter(|&&c| c == class).count() as u64;
    for (size, family) in [classes.len() as u64, count(UPPER), count(DIGIT)]
        .into_iter()
        .zip(SIZES)
    {
        let step = steps.partition_point(|&begins| begins <= size) as u64;
        found(SHAPES, mix(step.wrapping_add(family)));
    }
}

/// The sum of `code · BASE^place` modulo 2^64 over the characters of a span.
pub struct Polynomial {
    pub sum: u64,
    power: u64,
}

impl Default for Polynomial {
    fn default() -> Self {
        Polynomial { sum: 0, power: 1 }
    }
}

impl Polynomial {
    pub fn push(&mut self, code: u32) {
        self.sum = self
            .sum
            .wrapping_add(u64::from(code).wrapping_mul(self.power));
        self.power = self.power.wrapping_mul(BASE);
    }
}

fn pair(first: u64, second: u64) -> u64 {
    first.wrapping_mul(PAIR).wrapping_add(second)
}

/// Spread every bit over all 64 (the finaliser of SplitMix64).
pub fn mix(polynomial: u64) -> u64 {
    let mut mixed = polynomial;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
