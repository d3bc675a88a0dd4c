//! Clusters of near duplicates: what `tamis/data/near_duplicates.py` finds in numpy, text by text.
//!
//! hash 5-grams → a sorted set for each text → its rarest members are its *prefix tokens* → texts that share a
//! prefix token are compared, each pair once → connected components.

use crate::features::{mix, Polynomial};
use crate::memory::{collected, copied, extend, filled, with_capacity, Result};

const NGRAM: usize = 5;
/// A text is compared with so many smaller texts of a prefix token, nearest in size first.
const MAX_NEIGHBOURS: usize = 1000;
/// Rarity is counted by the upper bits of a hash; a shared slot costs a little time and loses no pair.
const RARITY_BITS: u32 = 22;
const ROUNDING: f64 = 1e-9;

/// Write for each text the smallest index of its cluster. The texts lie end to end in `codes`, each of `NGRAM`
/// characters or more.
pub fn clusters(codes: &[u32], lengths: &[u64], threshold: f64, roots: &mut [u64]) -> Result<()> {
    let sets = NgramSets::new(codes, lengths)?;
    let mut order = collected(0..lengths.len() as u32)?;
    // a stable sort would allocate
    order.sort_unstable_by_key(|&text| (sets.members(text).len(), text));
    let prefixes = Prefixes::new(&sets, &order, threshold)?;
    let mut search = Search::new(&sets, &order, threshold)?;
    for place in 0..order.len() {
        let probe = search.probe(place as u32);
        for &position in prefixes.positions(place) {
            search.compare_with_smaller(&probe, &prefixes.tokens, position as usize);
        }
    }
    for (text, root) in roots.iter_mut().enumerate() {
        *root = u64::from(search.components.root(text as u32));
    }
    Ok(())
}

/// The 5-grams of each text as a sorted set of 32-bit hashes.
struct NgramSets {
    starts: Vec<usize>,
    members: Vec<u32>,
    /// Parity of the members that fall on each of 64 bits.
    sketches: Vec<u64>,
}

impl NgramSets {
    fn new(mut codes: &[u32], lengths: &[u64]) -> Result<Self> {
        let mut sets = NgramSets {
            starts: with_capacity(lengths.len() + 1)?,
            members: Vec::new(),
            sketches: with_capacity(lengths.len())?,
        };
        sets.starts.push(0);
        let mut set = Vec::new();
        for &length in lengths {
            let (text, rest) = codes.split_at(length as usize);
            codes = rest;
            set.clear();
            extend(&mut set, text.windows(NGRAM).map(hash))?;
            set.sort_unstable();
            set.dedup();
            let parity = set.iter().fold(0, |bits, hash| bits ^ 1 << (hash & 63));
            sets.sketches.push(parity);
            extend(&mut sets.members, set.iter().copied())?;
            sets.starts.push(sets.members.len());
        }
        Ok(sets)
    }

    fn members(&self, text: u32) -> &[u32] {
        &self.members[self.starts[text as usize]..self.starts[text as usize + 1]]
    }
}

fn hash(ngram: &[u32]) -> u32 {
    let mut polynomial = Polynomial::default();
    ngram.iter().for_each(|&code| polynomial.push(code));
    (mix(polynomial.sum) >> 32) as u32
}

/// Each text's rarest 5-grams: of two near duplicates at least one is shared (Chaudhuri, Ganti and Kaushik, "A
/// primitive operator for similarity joins in data cleaning", ICDE 2006).
struct Prefixes {
    /// Hash in the upper half, place of the text in order of size in the lower; sorted.
    tokens: Vec<u64>,
    starts: Vec<usize>,
    positions: Vec<u32>,
}

impl Prefixes {
    fn new(sets: &NgramSets, order: &[u32], threshold: f64) -> Result<Self> {
        let tokens = prefix_tokens(sets, order, threshold)?;
        let mut starts = filled(0, order.len() + 1)?;
        for token in &tokens {
            starts[*token as u32 as usize + 1] += 1;
        }
        for place in 0..order.len() {
            starts[place + 1] += starts[place];
        }
        let (mut next, mut positions) = (copied(&starts)?, filled(0, tokens.len())?);
        for (position, token) in tokens.iter().enumerate() {
            let place = *token as u32 as usize;
            positions[next[place]] = position as u32;
            next[place] += 1;
        }
        Ok(Prefixes {
            tokens,
            starts,
            positions,
        })
    }

    /// Where in `tokens` those of the text at `place` are.
    fn positions(&self, place: usize) -> &[u32] {
        &self.positions[self.starts[place]..self.starts[place + 1]]
    }
}

fn prefix_tokens(sets: &NgramSets, order: &[u32], threshold: f64) -> Result<Vec<u64>> {
    let slot = |hash: u32| (hash >> (32 - RARITY_BITS)) as usize;
    let mut rarity = filled(0u32, 1 << RARITY_BITS)?;
    for &hash in &sets.members {
        rarity[slot(hash)] += 1;
    }
    let (mut tokens, mut ranked) = (Vec::new(), Vec::new());
    for (place, &text) in order.iter().enumerate() {
        let members = sets.members(text);
        let size = members.len();
        let n_wanted = size - (threshold * size as f64 - ROUNDING).ceil() as usize + 1;
        ranked.clear();
        let rank = |&hash: &u32| u64::from(rarity[slot(hash)]) << 32 | u64::from(hash);
        extend(&mut ranked, members.iter().map(rank))?;
        if n_wanted < size {
            ranked.select_nth_unstable(n_wanted - 1);
        }
        let wanted = &ranked[..n_wanted.min(size)];
        let token = |&member: &u64| member << 32 | place as u64;
        extend(&mut tokens, wanted.iter().map(token))?;
    }
    tokens.sort_unstable();
    Ok(tokens)
}

struct Search<'a> {
    sets: &'a NgramSets,
    /// Texts from the smallest set to the largest; a text's *place* is its index here.
    order: &'a [u32],
    /// By place: all that is read of most pairs.
    sketches: Vec<u64>,
    threshold: f64,
    components: Components,
    /// By place, the last larger text that each text was compared with.
    compared: Vec<u32>,
}

/// A text that is compared with smaller ones.
struct Probe {
    place: u32,
    sketch: u64,
    /// The first place of a text that is large enough to be a near duplicate.
    first_place: u32,
    /// How many members a near duplicate of the same size may not share; of a smaller one it is less.
    max_unshared: u32,
}

impl<'a> Search<'a> {
    fn new(sets: &'a NgramSets, order: &'a [u32], threshold: f64) -> Result<Self> {
        let sketches = order.iter().map(|&text| sets.sketches[text as usize]);
        Ok(Search {
            sets,
            order,
            sketches: collected(sketches)?,
            threshold,
            components: Components(collected(0..order.len() as u32)?),
            compared: filled(u32::MAX, order.len())?,
        })
    }

    fn probe(&self, place: u32) -> Probe {
        let size = self.size(self.order[place as usize]);
        let is_small = |&text: &u32| self.size(text) / size < self.threshold;
        Probe {
            place,
            sketch: self.sketches[place as usize],
            first_place: self.order.partition_point(is_small) as u32,
            max_unshared: self.max_unshared(2.0 * size) as u32,
        }
    }

    fn size(&self, text: u32) -> f64 {
        self.sets.members(text).len() as f64
    }

    /// Return how many of so many members two near duplicates may not share.
    fn max_unshared(&self, total: f64) -> f64 {
        total * (1.0 - self.threshold) / (1.0 + self.threshold) + ROUNDING
    }

    #[cfg(target_arch = "x86_64")]
    fn compare_with_smaller(&mut self, probe: &Probe, tokens: &[u64], position: usize) {
        if std::arch::is_x86_feature_detected!("popcnt") {
            // Safety: the processor has what the function is compiled for.
            return unsafe { self.compare_with_popcnt(probe, tokens, position) };
        }
        self.compare(probe, tokens, position);
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn compare_with_smaller(&mut self, probe: &Probe, tokens: &[u64], position: usize) {
        self.compare(probe, tokens, position);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "popcnt")]
    unsafe fn compare_with_popcnt(&mut self, probe: &Probe, tokens: &[u64], position: usize) {
        self.compare(probe, tokens, position);
    }

    /// Compare a text with the smaller ones before it at `position` of the sorted tokens.
    #[inline(always)]
    fn compare(&mut self, probe: &Probe, tokens: &[u64], position: usize) {
        let first = position.saturating_sub(MAX_NEIGHBOURS);
        let end = tokens[position] >> 32 << 32 | u64::from(probe.first_place);
        for &other in tokens[first..position].iter().rev() {
            if other < end {
                return; // of another token, or too small
            }
            let place = other as u32 as usize;
            let unshared = (probe.sketch ^ self.sketches[place]).count_ones();
            if unshared <= probe.max_unshared && self.compared[place] != probe.place {
                self.compared[place] = probe.place;
                self.join_near_duplicates(probe.place, place as u32);
            }
        }
    }

    #[cold]
    fn join_near_duplicates(&mut self, one: u32, other: u32) {
        let (one, other) = (self.order[one as usize], self.order[other as usize]);
        let is_apart = self.components.root(one) != self.components.root(other);
        if is_apart && self.are_near_duplicates(one, other) {
            self.components.join(one, other);
        }
    }

    fn are_near_duplicates(&self, one: u32, other: u32) -> bool {
        let total = self.size(one) + self.size(other);
        let max_unshared = self.max_unshared(total) as usize;
        let (one, other) = (self.sets.members(one), self.sets.members(other));
        let shared = shared_members(one, other, max_unshared + 1);
        shared.is_some_and(|n| n as f64 / (total - n as f64) >= self.threshold)
    }
}

/// Count the members that two sorted sets share; None as soon as more than `max_unshared` are not shared.
fn shared_members(one: &[u32], other: &[u32], max_unshared: usize) -> Option<usize> {
    let (mut i, mut j, mut shared) = (0, 0, 0);
    while i < one.len() && j < other.len() {
        let (a, b) = (one[i], other[j]);
        i += usize::from(a <= b);
        j += usize::from(b <= a);
        shared += usize::from(a == b);
        if i + j - 2 * shared > max_unshared {
            return None;
        }
    }
    Some(shared)
}

/// Connected components; the root of each is its smallest member.
struct Components(Vec<u32>);

impl Components {
    fn root(&mut self, mut text: u32) -> u32 {
        while self.0[text as usize] != text {
            let parent = self.0[text as usize];
            self.0[text as usize] = self.0[parent as usize];
            text = self.0[text as usize];
        }
        text
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        self.0[one.max(other) as usize] = one.min(other);
    }
}
