//! Training texts as the solver reads them: scaled values, and apart from them what no other text has.

use crate::counts::{Counts, Labelled};
use crate::features::N_BLOCKS;
use crate::memory::{filled, push, with_capacity, Result};

/// What turns counts into values.
pub struct Scaling<'a> {
    /// `[features]` weight of each feature, 0 for those that are not learned.
    pub weights: &'a [f32],
    /// `[features]` the block that each feature is scaled in.
    pub blocks: &'a [u8],
    /// What the length of each block is scaled to.
    pub block_weights: [f64; N_BLOCKS],
    /// What a feature counts by how often it is in a text.
    pub sublinear: &'a [f64],
}

/// A feature of a text and its value.
#[derive(Clone, Copy)]
pub struct Entry {
    pub id: u32,
    pub value: f32,
}

/// A text's entries: those that other texts share first.
pub struct Examples {
    starts: Vec<usize>,
    shared_ends: Vec<usize>,
    entries: Vec<Entry>,
    /// Squared length of what a text shares with others, and of what it alone has.
    pub squares: Vec<(f32, f32)>,
}

impl Examples {
    /// A feature that one text alone has is orthogonal to all other texts: for the solver all of them together are
    /// one number, the square of their length. A third of all entries need not be looked at.
    pub fn new(counts: &Counts, rows: &Labelled, scaling: &Scaling) -> Result<Self> {
        let mut documents = filled(0u32, scaling.weights.len())?;
        let mut room = 0;
        for &row in rows.rows {
            for &id in counts.ids(row) {
                documents[id as usize] += 1;
            }
            room += counts.ids(row).len();
        }
        let n = rows.rows.len();
        let mut examples = Examples {
            starts: with_capacity(n + 1)?,
            shared_ends: with_capacity(n)?,
            entries: with_capacity(room)?,
            squares: with_capacity(n)?,
        };
        examples.starts.push(0);
        let mut alone = Vec::new();
        for &row in rows.rows {
            examples.push(counts, row, scaling, &documents, &mut alone)?;
        }
        Ok(examples)
    }

    pub fn len(&self) -> usize {
        self.squares.len()
    }

    /// The entries that other texts share.
    pub fn shared(&self, row: usize) -> &[Entry] {
        &self.entries[self.starts[row]..self.shared_ends[row]]
    }

    /// The entries that no other text has.
    pub fn alone(&self, row: usize) -> &[Entry] {
        &self.entries[self.shared_ends[row]..self.starts[row + 1]]
    }

    fn push(
        &mut self,
        counts: &Counts,
        row: u32,
        scaling: &Scaling,
        documents: &[u32],
        alone: &mut Vec<Entry>,
    ) -> Result<()> {
        let factors = scaling.factors(counts, row);
        let (mut shared_squares, mut alone_squares) = (0.0, 0.0);
        alone.clear();
        for (id, count) in counts.entries(row) {
            let feature = id as usize;
            let value = scaling.raw(id, count) * factors[scaling.blocks[feature] as usize];
            let entry = Entry {
                id,
                value: value as f32,
            };
            if value == 0.0 {
                continue;
            }
            if documents[feature] > 1 {
                shared_squares += value * value;
                self.entries.push(entry);
            } else {
                alone_squares += value * value;
                push(alone, entry)?;
            }
        }
        self.shared_ends.push(self.entries.len());
        self.entries.append(alone);
        self.starts.push(self.entries.len());
        self.squares
            .push((shared_squares as f32, alone_squares as f32));
        Ok(())
    }
}

impl Scaling<'_> {
    fn raw(&self, id: u32, count: u16) -> f64 {
        let largest = self.sublinear.len() - 1;
        self.sublinear[(count as usize).min(largest)] * f64::from(self.weights[id as usize])
    }

    /// Return what each block's values are multiplied by, so that it has the length it should have.
    fn factors(&self, counts: &Counts, row: u32) -> [f64; N_BLOCKS] {
        let mut squares = [0.0; N_BLOCKS];
        for (id, count) in counts.entries(row) {
            let value = self.raw(id, count);
            squares[self.blocks[id as usize] as usize] += value * value;
        }
        let mut factors = self.block_weights;
        for (factor, square) in factors.iter_mut().zip(squares) {
            *factor /= if square == 0.0 { 1.0 } else { square.sqrt() };
        }
        factors
    }
}
