//! A linear model's weights, and the sums over a text's features: what `LinearWeights.logits` of
//! `tamis/models/linear/weights.py` does in numpy, the same operations in the same order, so that the
//! answers are the same to the last bit.

use crate::features::{for_each_hash, Characters, Settings, Workspace};
use std::mem::take;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Everything that scoring reads; threads may share it.
pub struct Model {
    characters: Characters,
    settings: Settings,
    shift: u32,
    known: Known,
    /// `[features, 1 + columns]`: the inverse document frequency, then a weight for each column.
    numbers: Vec<f32>,
    intercept: Vec<f64>,
    /// What a feature counts by how often it stands in a text.
    sublinear: Vec<f64>,
    tallies: Tallies,
}

/// What was learned, as an artifact holds it.
pub struct Weights<'a> {
    pub bits: u32,
    /// `[features]` ascending numbers below `2^bits`.
    pub numbers: &'a [u32],
    /// `[features]`
    pub idf: &'a [f32],
    /// `[features, columns]`
    pub weights: &'a [f32],
    /// `[columns]`
    pub intercept: &'a [f64],
}

impl Model {
    pub fn new(
        characters: Characters,
        settings: Settings,
        learned: &Weights,
        sublinear: &[f64],
    ) -> Self {
        let weights = learned.weights.chunks_exact(learned.intercept.len());
        let rows = learned.idf.iter().zip(weights);
        Model {
            characters,
            settings,
            shift: 64 - learned.bits,
            known: Known::new(learned.bits, learned.numbers),
            numbers: rows
                .flat_map(|(&idf, row)| std::iter::once(idf).chain(row.iter().copied()))
                .collect(),
            intercept: learned.intercept.to_vec(),
            sublinear: sublinear.to_vec(),
            tallies: Tallies {
                n_rows: learned.numbers.len(),
                idle: Mutex::default(),
            },
        }
    }

    pub fn n_columns(&self) -> usize {
        self.intercept.len()
    }

    /// Write the margin of each text in each column; the texts lie end to end, `lengths` long.
    pub fn margins(&self, codes: &[u32], lengths: &[u64], margins: &mut [f64]) {
        let (mut rows, mut tally) = (Vec::new(), self.tallies.take());
        let mut all = margins.chunks_exact_mut(self.intercept.len());
        self.for_each_text(codes, lengths, |numbers| {
            for &row in self.known.rows(numbers, &mut rows).iter() {
                tally.add(row);
            }
            self.add_up(&mut tally, all.next().expect("a row for each text"));
        });
        self.tallies.give_back(tally);
    }

    /// Write how many distinct features each text has, and, text by text and ascending, these features
    /// and how often each is there; return how many they are in all.
    pub fn count(
        &self,
        codes: &[u32],
        lengths: &[u64],
        distinct: &mut [u64],
        found: Found,
    ) -> usize {
        let (mut total, mut sizes) = (0, distinct.iter_mut());
        self.for_each_text(codes, lengths, |numbers| {
            numbers.sort_unstable();
            let before = total;
            for (number, count) in Runs(numbers) {
                (found.features[total], found.counts[total]) = (number, count as u64);
                total += 1;
            }
            *sizes.next().expect("a size for each text") = (total - before) as u64;
        });
        total
    }

    /// Call `each` with the numbers of every text's features, in no particular order.
    fn for_each_text(&self, mut codes: &[u32], lengths: &[u64], mut each: impl FnMut(&mut [u32])) {
        let (mut workspace, mut numbers) = (Workspace::default(), Vec::new());
        for &length in lengths {
            let (text, rest) = codes.split_at(length as usize);
            codes = rest;
            numbers.clear();
            for_each_hash(
                text,
                &self.characters,
                &self.settings,
                &mut workspace,
                |hash| numbers.push((hash >> self.shift) as u32),
            );
            each(&mut numbers);
        }
    }

    /// Write the probability of each class for each text: the softmax of its margins.
    pub fn probabilities(&self, codes: &[u32], lengths: &[u64], probabilities: &mut [f64]) {
        if self.n_columns() > 1 {
            self.margins(codes, lengths, probabilities);
            probabilities
                .chunks_exact_mut(self.n_columns())
                .for_each(softmax);
            return;
        }
        let mut margins = vec![0.0; lengths.len()];
        self.margins(codes, lengths, &mut margins);
        for (margin, row) in margins.iter().zip(probabilities.chunks_exact_mut(2)) {
            row.copy_from_slice(&[-0.5 * margin, 0.5 * margin]);
            softmax(row);
        }
    }

    pub fn n_classes(&self) -> usize {
        self.n_columns().max(2)
    }

    /// Sum over the rows that are in the tally, ascending, and scale by the length of the text's vector.
    fn add_up(&self, tally: &mut Tally, sums: &mut [f64]) {
        sums.fill(0.0);
        let mut squares = 0.0;
        let width = 1 + sums.len();
        tally.drain(|row, count| {
            let numbers = &self.numbers[row * width..][..width];
            let value = self.sublinear[count.min(self.sublinear.len() - 1)] * f64::from(numbers[0]);
            squares += value * value;
            for (sum, &weight) in sums.iter_mut().zip(&numbers[1..]) {
                *sum += value * f64::from(weight);
            }
        });
        let length = if squares == 0.0 { 1.0 } else { squares.sqrt() };
        for (sum, intercept) in sums.iter_mut().zip(&self.intercept) {
            *sum = *sum / length + intercept;
        }
    }
}

/// How often each row of a model is there in a text. It gives them in ascending order without sorting
/// them, which took a third of a text's time.
struct Tally {
    counts: Vec<u32>,
    /// A bit for every row that is there, and above it one for every word of 64 rows, so that a large
    /// model's rows need not all be looked at.
    rows: Vec<u64>,
    words: Vec<u64>,
}

impl Tally {
    fn new(n_rows: usize) -> Self {
        let n_words = n_rows.div_ceil(64);
        Tally {
            counts: vec![0; n_rows],
            rows: vec![0; n_words],
            words: vec![0; n_words.div_ceil(64)],
        }
    }

    fn add(&mut self, row: u32) {
        let row = row as usize;
        self.counts[row] += 1;
        self.rows[row >> 6] |= 1 << (row & 63);
        self.words[row >> 12] |= 1 << (row >> 6 & 63);
    }

    /// Call `each` with every row that is there, ascending, and its count; nothing is there afterwards.
    fn drain(&mut self, mut each: impl FnMut(usize, usize)) {
        for (upper, words) in self.words.iter_mut().enumerate() {
            for word in Bits(take(words)).map(|bit| upper << 6 | bit) {
                for row in Bits(take(&mut self.rows[word])).map(|bit| word << 6 | bit) {
                    each(row, take(&mut self.counts[row]) as usize);
                }
            }
        }
    }
}

/// The places of the bits that are set, ascending.
struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let place = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(place)
    }
}

/// Empty tallies from call to call: a large model's takes longer to make than a text to score.
struct Tallies {
    n_rows: usize,
    idle: Mutex<Vec<Tally>>,
}

impl Tallies {
    fn take(&self) -> Tally {
        let tally = self.idle().pop();
        tally.unwrap_or_else(|| Tally::new(self.n_rows))
    }

    fn give_back(&self, tally: Tally) {
        self.idle().push(tally);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Tally>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where `count` writes features and how often each is there; room for every occurrence.
pub struct Found<'a> {
    pub features: &'a mut [u32],
    pub counts: &'a mut [u64],
}

/// The distinct numbers of an ascending slice, with how often each is there.
struct Runs<'a>(&'a [u32]);

impl Iterator for Runs<'_> {
    type Item = (u32, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let &number = self.0.first()?;
        let count = self.0.iter().take_while(|&&other| other == number).count();
        self.0 = &self.0[count..];
        Some((number, count))
    }
}

fn softmax(logits: &mut [f64]) {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logits.iter_mut().for_each(|x| *x = (*x - highest).exp());
    let sum: f64 = logits.iter().sum();
    logits.iter_mut().for_each(|x| *x /= sum);
}

/// Which numbers are features of the model, and the row of each: a bit for every number, and how many
/// bits stand before each word of 64. All of it fits into a processor's cache, which a table of rows
/// does not.
struct Known {
    bits: Vec<u64>,
    before: Vec<u32>,
}

impl Known {
    fn new(bits: u32, numbers: &[u32]) -> Self {
        let mut words = vec![0u64; 1 << bits >> 6];
        for &number in numbers {
            words[number as usize >> 6] |= 1 << (number & 63);
        }
        let mut count = 0;
        let before = words
            .iter()
            .map(|word| (count, count += word.count_ones()).0)
            .collect();
        Known {
            bits: words,
            before,
        }
    }

    /// Return the rows of those `numbers` that are known, in `room`.
    fn rows<'a>(&self, numbers: &[u32], room: &'a mut Vec<u32>) -> &'a mut [u32] {
        room.resize(numbers.len(), 0);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("popcnt") {
            // Safety: the processor has what the function is compiled for.
            return unsafe { self.rows_with_popcnt(numbers, room) };
        }
        self.rows_in(numbers, room)
    }

    /// As `rows_in`; compiled for every x86-64, counting bits takes a dozen instructions in place of one.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "popcnt")]
    unsafe fn rows_with_popcnt<'a>(&self, numbers: &[u32], room: &'a mut [u32]) -> &'a mut [u32] {
        self.rows_in(numbers, room)
    }

    #[inline(always)]
    fn rows_in<'a>(&self, numbers: &[u32], room: &'a mut [u32]) -> &'a mut [u32] {
        let mut count = 0;
        for &number in numbers {
            let (word, bit) = (self.bits[number as usize >> 6], number & 63);
            // written in any case and kept if known: about half are, and no processor guesses which
            room[count] =
                self.before[number as usize >> 6] + (word & ((1 << bit) - 1)).count_ones();
            count += (word >> bit & 1) as usize;
        }
        &mut room[..count]
    }
}
