//! How much each feature counts: its inverse document frequency, times how strongly it tells labels apart.

use crate::counts::{Counts, Labelled};
use crate::memory::{collected, copied, filled, with_capacity, Result};

/// How to weight features.
pub struct Weighting {
    /// A feature of fewer training texts is dropped.
    pub min_documents: u32,
    /// Whether the log ratio of a feature's probability in a label to that in the others plays a part.
    pub log_ratios: bool,
}

/// Added to every count of texts, so that no probability is 0.
const SMOOTHING: f64 = 1.0;

/// Write the weight of every feature that is learned, 0 for the others, and how many texts have it.
pub fn feature_weights(
    counts: &Counts,
    rows: &Labelled,
    weighting: &Weighting,
    weights: &mut [f64],
    documents: &mut [u32],
) -> Result<()> {
    let postings = Postings::new(counts, rows, weights.len())?;
    let ratios = LogRatios::new(rows)?;
    let mut tally = LabelTally::new(rows.n_labels)?;
    let n_texts = rows.rows.len() as f64;
    for (feature, weight) in weights.iter_mut().enumerate() {
        let labels = postings.labels(feature);
        *weight = 0.0;
        documents[feature] = labels.len() as u32;
        if labels.is_empty() || labels.len() < weighting.min_documents as usize {
            continue;
        }
        *weight = ((1.0 + n_texts) / (1.0 + labels.len() as f64)).ln() + 1.0;
        if weighting.log_ratios {
            tally.count(labels);
            *weight *= (0.5 + ratios.largest(&tally, labels.len())).sqrt();
            tally.clear();
        }
    }
    Ok(())
}

/// The labels of the texts that each feature is in.
struct Postings {
    starts: Vec<usize>,
    labels: Vec<u16>,
}

impl Postings {
    fn new(counts: &Counts, rows: &Labelled, n_features: usize) -> Result<Self> {
        let mut starts = filled(0, n_features + 1)?;
        for &row in rows.rows {
            for &id in counts.ids(row) {
                starts[id as usize + 1] += 1;
            }
        }
        for feature in 0..n_features {
            starts[feature + 1] += starts[feature];
        }
        let mut labels = filled(0, starts[n_features])?;
        let mut next = copied(&starts)?;
        for (&row, &label) in rows.rows.iter().zip(rows.labels) {
            for &id in counts.ids(row) {
                labels[next[id as usize]] = label as u16;
                next[id as usize] += 1;
            }
        }
        Ok(Postings { starts, labels })
    }

    fn labels(&self, feature: usize) -> &[u16] {
        &self.labels[self.starts[feature]..self.starts[feature + 1]]
    }
}

/// How many texts of each label have a feature.
struct LabelTally {
    counts: Vec<u32>,
    present: Vec<u16>,
}

impl LabelTally {
    fn new(n_labels: usize) -> Result<Self> {
        Ok(LabelTally {
            counts: filled(0, n_labels)?,
            present: with_capacity(n_labels)?,
        })
    }

    fn count(&mut self, labels: &[u16]) {
        for &label in labels {
            let count = &mut self.counts[label as usize];
            if *count == 0 {
                self.present.push(label);
            }
            *count += 1;
        }
    }

    fn clear(&mut self) {
        for label in self.present.drain(..) {
            self.counts[label as usize] = 0;
        }
    }
}

/// The number of texts of each label, and the labels from the rarest to the most frequent.
struct LogRatios {
    sizes: Vec<f64>,
    by_size: Vec<u16>,
    total: f64,
}

impl LogRatios {
    fn new(rows: &Labelled) -> Result<Self> {
        let mut sizes = filled(0f64, rows.n_labels)?;
        for &label in rows.labels {
            sizes[label as usize] += 1.0;
        }
        let mut by_size = collected(0..rows.n_labels as u16)?;
        // a stable sort would allocate
        by_size.sort_unstable_by(|&a, &b| {
            sizes[a as usize]
                .total_cmp(&sizes[b as usize])
                .then(a.cmp(&b))
        });
        Ok(LogRatios {
            sizes,
            by_size,
            total: rows.labels.len() as f64,
        })
    }

    /// Return the largest absolute log ratio over the labels. Of the labels without the feature it is that of
    /// the rarest or of the most frequent one, so the time does not grow with the number of labels.
    fn largest(&self, tally: &LabelTally, documents: usize) -> f64 {
        let absent = |label: &&u16| tally.counts[**label as usize] == 0;
        let ends = [
            self.by_size.iter().find(absent),
            self.by_size.iter().rev().find(absent),
        ];
        let labels = tally.present.iter().chain(ends.into_iter().flatten());
        labels
            .map(|&label| self.ratio(label as usize, tally, documents as f64).abs())
            .fold(0.0, f64::max)
    }

    fn ratio(&self, label: usize, tally: &LabelTally, documents: f64) -> f64 {
        let (inside, size) = (f64::from(tally.counts[label]), self.sizes[label]);
        let within = (inside + SMOOTHING) / (size + 2.0 * SMOOTHING);
        let elsewhere = (documents - inside + SMOOTHING) / (self.total - size + 2.0 * SMOOTHING);
        (within / elsewhere).ln()
    }
}
