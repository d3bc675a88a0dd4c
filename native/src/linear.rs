//! A linear model's weights, and the sums over a text's features: what `LinearWeights.logits` of
//! `tamis/models/linear/weights.py` does in numpy, the same operations in the same order, so that the
//! answers are the same to the last bit.

use crate::counts::Counts;
use crate::features::{for_each_hash, Characters, Settings, Workspace, N_BLOCKS};
use crate::memory::{collected, copied, filled, push, with_capacity, Growing, Result};
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
    scale: f64,
    /// The row after the last one of each block.
    ends: [usize; N_BLOCKS],
    /// What a feature counts by how often it stands in a text.
    sublinear: Vec<f64>,
    tallies: Tallies,
}

/// What was learned, as an artifact holds it.
pub struct Weights<'a> {
    pub bits: u32,
    /// `[features]` ascending numbers, `2^bits` to a block.
    pub numbers: &'a [u32],
    /// `[features]`
    pub idf: &'a [f32],
    /// `[features, columns]`
    pub weights: &'a [f32],
    /// `[columns]`
    pub intercept: &'a [f64],
    /// What the sums are multiplied by.
    pub scale: f64,
}

impl Model {
    pub fn new(
        characters: Characters,
        settings: Settings,
        learned: &Weights,
        sublinear: &[f64],
    ) -> Result<Self> {
        let weights = learned.weights.chunks_exact(learned.intercept.len());
        let rows = learned.idf.iter().zip(weights);
        let n_numbers = settings.n_blocks() << learned.bits;
        let end = |block| {
            let numbers = learned.numbers;
            numbers.partition_point(|&number| (number as usize) < (block + 1) << learned.bits)
        };
        let mut numbers = with_capacity(learned.idf.len() + learned.weights.len())?;
        for (&idf, row) in rows {
            numbers.push(idf);
            numbers.extend_from_slice(row);
        }
        Ok(Model {
            characters,
            shift: 64 - learned.bits,
            known: Known::new(n_numbers, learned.numbers)?,
            ends: std::array::from_fn(end),
            settings,
            scale: learned.scale,
            numbers,
            intercept: copied(learned.intercept)?,
            sublinear: copied(sublinear)?,
            tallies: Tallies {
                n_rows: learned.numbers.len(),
                idle: Mutex::default(),
            },
        })
    }

    pub fn n_columns(&self) -> usize {
        self.intercept.len()
    }

    /// Write the margin of each text in each column; the texts lie end to end, `lengths` long.
    pub fn margins(&self, codes: &[u32], lengths: &[u64], margins: &mut [f64]) -> Result<()> {
        let (mut rows, mut tally) = (Vec::new(), self.tallies.take()?);
        let mut block = filled(0.0, self.intercept.len())?;
        let mut all = margins.chunks_exact_mut(self.intercept.len());
        self.for_each_text(codes, lengths, |numbers| {
            for &row in self.known.rows(numbers, &mut rows)?.iter() {
                tally.add(row);
            }
            let mut sums = Sums::new(self, all.next().expect("a row for each text"), &mut block);
            tally.drain(|row, count| sums.add(row, count));
            sums.finish();
            Ok(())
        })?;
        self.tallies.give_back(tally);
        Ok(())
    }

    /// Write the margins of the texts at `rows`, whose features are counted already: the same bits as of the texts
    /// themselves. `row_of_id` is the model's row of each counted feature, `u32::MAX` where it has none.
    pub fn margins_of_counts(
        &self,
        counts: &Counts,
        rows: &[u32],
        row_of_id: &[u32],
        margins: &mut [f64],
    ) -> Result<()> {
        let mut block = filled(0.0, self.intercept.len())?;
        let all = margins.chunks_exact_mut(self.intercept.len());
        for (&row, margins) in rows.iter().zip(all) {
            let mut sums = Sums::new(self, margins, &mut block);
            for (id, count) in counts.entries(row) {
                let row = row_of_id[id as usize];
                if row != u32::MAX {
                    sums.add(row as usize, count as usize);
                }
            }
            sums.finish();
        }
        Ok(())
    }

    /// Write how many distinct features each text has, and, text by text and ascending, these features
    /// and how often each is there; return how many they are in all.
    pub fn count(
        &self,
        codes: &[u32],
        lengths: &[u64],
        distinct: &mut [u64],
        found: Found,
    ) -> Result<usize> {
        let (mut total, mut sizes) = (0, distinct.iter_mut());
        self.for_each_text(codes, lengths, |numbers| {
            numbers.sort_unstable();
            let before = total;
            for (number, count) in Runs(numbers) {
                (found.features[total], found.counts[total]) =
                    (number, count.min(LARGEST_COUNT) as u16);
                total += 1;
            }
            *sizes.next().expect("a size for each text") = (total - before) as u64;
            Ok(())
        })?;
        Ok(total)
    }

    /// Return the first number of each block.
    fn first_numbers(&self) -> [u32; N_BLOCKS] {
        match self.settings.blocks {
            true => std::array::from_fn(|block| (block as u32) << (64 - self.shift)),
            false => [0; N_BLOCKS],
        }
    }

    /// Call `each` with the numbers of every text's features, in no particular order.
    fn for_each_text(
        &self,
        mut codes: &[u32],
        lengths: &[u64],
        mut each: impl FnMut(&mut [u32]) -> Result<()>,
    ) -> Result<()> {
        let (mut workspace, mut numbers) = (Workspace::default(), Growing::default());
        let first = self.first_numbers();
        for &length in lengths {
            let (text, rest) = codes.split_at(length as usize);
            codes = rest;
            numbers.clear();
            for_each_hash(
                text,
                &self.characters,
                &self.settings,
                &mut workspace,
                |block, hash| numbers.push(first[block] | (hash >> self.shift) as u32),
            )?;
            each(numbers.filled()?)?;
        }
        Ok(())
    }

    /// Write the probability of each class for each text: the softmax of its margins.
    pub fn probabilities(
        &self,
        codes: &[u32],
        lengths: &[u64],
        probabilities: &mut [f64],
    ) -> Result<()> {
        if self.n_columns() > 1 {
            self.margins(codes, lengths, probabilities)?;
            probabilities
                .chunks_exact_mut(self.n_columns())
                .for_each(softmax);
            return Ok(());
        }
        let mut margins = filled(0.0, lengths.len())?;
        self.margins(codes, lengths, &mut margins)?;
        for (margin, row) in margins.iter().zip(probabilities.chunks_exact_mut(2)) {
            row.copy_from_slice(&[-0.5 * margin, 0.5 * margin]);
            softmax(row);
        }
        Ok(())
    }

    pub fn n_classes(&self) -> usize {
        self.n_columns().max(2)
    }
}

/// The sums over a text's features, which come in ascending order of their rows, block by block.
struct Sums<'a> {
    model: &'a Model,
    /// What the blocks before have added to each column.
    totals: &'a mut [f64],
    /// The sums of this block.
    block: &'a mut [f64],
    squares: f64,
    n_closed: usize,
}

impl<'a> Sums<'a> {
    fn new(model: &'a Model, totals: &'a mut [f64], block: &'a mut [f64]) -> Self {
        totals.fill(0.0);
        block.fill(0.0);
        Sums {
            model,
            totals,
            block,
            squares: 0.0,
            n_closed: 0,
        }
    }

    #[inline(always)]
    fn add(&mut self, row: usize, count: usize) {
        while row >= self.model.ends[self.n_closed] {
            self.close_block();
        }
        let (width, sublinear) = (1 + self.block.len(), &self.model.sublinear);
        let numbers = &self.model.numbers[row * width..][..width];
        let value = sublinear[count.min(sublinear.len() - 1)] * f64::from(numbers[0]);
        self.squares += value * value;
        // two labels are one column: the loop would cost as much as its work
        if let ([sum], [_, weight]) = (&mut *self.block, numbers) {
            *sum += value * f64::from(*weight);
            return;
        }
        for (sum, &weight) in self.block.iter_mut().zip(&numbers[1..]) {
            *sum += value * f64::from(weight);
        }
    }

    /// Scale this block by the length of its vector, and begin the next.
    fn close_block(&mut self) {
        let squares = std::mem::take(&mut self.squares);
        let length = if squares == 0.0 { 1.0 } else { squares.sqrt() };
        for (total, sum) in self.totals.iter_mut().zip(self.block.iter_mut()) {
            *total += std::mem::take(sum) / length;
        }
        self.n_closed += 1;
    }

    fn finish(mut self) {
        self.close_block();
        for (total, intercept) in self.totals.iter_mut().zip(&self.model.intercept) {
            *total = *total * self.model.scale + intercept;
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
    fn new(n_rows: usize) -> Result<Self> {
        let n_words = n_rows.div_ceil(64);
        Ok(Tally {
            counts: filled(0, n_rows)?,
            rows: filled(0, n_words)?,
            words: filled(0, n_words.div_ceil(64))?,
        })
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
    fn take(&self) -> Result<Tally> {
        let tally = self.idle().pop();
        tally.map_or_else(|| Tally::new(self.n_rows), Ok)
    }

    /// Keep a tally for the next call, or drop it if there is no memory to keep it in.
    fn give_back(&self, tally: Tally) {
        let _ = push(&mut self.idle(), tally);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Tally>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where `count` writes features and how often each is there; room for every occurrence.
pub struct Found<'a> {
    pub features: &'a mut [u32],
    pub counts: &'a mut [u16],
}

/// A text counts a feature this often at most; more would not fit.
const LARGEST_COUNT: usize = u16::MAX as usize;

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
    fn new(n_numbers: usize, numbers: &[u32]) -> Result<Self> {
        let mut words = filled(0u64, n_numbers >> 6)?;
        for &number in numbers {
            words[number as usize >> 6] |= 1 << (number & 63);
        }
        let mut count = 0;
        let counts = words
            .iter()
            .map(|word| (count, count += word.count_ones()).0);
        let before = collected(counts)?;
        Ok(Known {
            bits: words,
            before,
        })
    }

    /// Return the rows of those `numbers` that are known, in `room`.
    fn rows<'a>(&self, numbers: &[u32], room: &'a mut Vec<u32>) -> Result<&'a mut [u32]> {
        room.try_reserve(numbers.len().saturating_sub(room.len()))?;
        room.resize(numbers.len(), 0);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("popcnt") {
            // Safety: the processor has what the function is compiled for.
            return Ok(unsafe { self.rows_with_popcnt(numbers, room) });
        }
        Ok(self.rows_in(numbers, room))
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
