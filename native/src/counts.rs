//! The counted features of many texts, and some of their rows with labels, as training passes them.

/// `texts` in compressed sparse rows; a feature is an id below the number of distinct features.
pub struct Counts<'a> {
    /// `[texts + 1]` where each text's entries begin.
    pub starts: &'a [u64],
    /// `[entries]` in ascending order of the features' numbers, which is not that of their ids.
    pub ids: &'a [u32],
    /// `[entries]` how often the text has the feature.
    pub counts: &'a [u16],
}

impl Counts<'_> {
    pub fn ids(&self, row: u32) -> &[u32] {
        &self.ids[self.range(row)]
    }

    pub fn entries(&self, row: u32) -> impl Iterator<Item = (u32, u16)> + '_ {
        let range = self.range(row);
        let counts = self.counts[range.clone()].iter().copied();
        self.ids[range].iter().copied().zip(counts)
    }

    fn range(&self, row: u32) -> std::ops::Range<usize> {
        self.starts[row as usize] as usize..self.starts[row as usize + 1] as usize
    }
}

/// The rows to learn from, each with the index of its label.
pub struct Labelled<'a> {
    pub rows: &'a [u32],
    pub labels: &'a [u32],
    pub n_labels: usize,
}
