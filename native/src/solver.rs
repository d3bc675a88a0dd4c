//! One-against-the-rest linear support vector machines of all labels at once: dual coordinate descent for the
//! squared hinge loss (Hsieh et al., "A dual coordinate descent method for large-scale linear SVM", ICML 2008).
//!
//! A text is read once for several labels whose weights lie side by side (a *panel* of labels), and skipped once
//! all of them have it on the right side for good. A panel's numbers depend on no other panel: the result is the
//! same bits whatever the number of threads.

use crate::examples::{Entry, Examples};
use crate::memory::{collected, extend, filled, push, OutOfMemory, Result};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How to learn.
pub struct Options<'a> {
    /// `[columns]` cost of an error on a text of the label, and on one of the others.
    pub costs: &'a [(f64, f64)],
    pub epochs: usize,
    pub seed: u64,
    pub n_threads: usize,
}

/// Where the result goes.
pub struct Solution<'a> {
    /// `[features, columns]`
    pub weights: &'a mut [f32],
    /// `[columns]`
    pub intercept: &'a mut [f64],
}

/// Largest violation of the optimality conditions at which learning ends early.
const TOLERANCE: f32 = 0.01;

/// Learn one column for each of `costs`: the texts whose label is the column's index against all others. With a
/// single column the texts of label 1 are the positive ones.
pub fn solve(
    examples: &Examples,
    labels: &[u32],
    n_features: usize,
    options: &Options,
    solution: Solution,
) -> Result<()> {
    let n_columns = options.costs.len();
    let panels = panels(n_columns)?;
    let next = AtomicUsize::new(0);
    let has_failed = AtomicBool::new(false);
    let solution = Mutex::new(solution);
    let solve_panels = || {
        while let Some(panel) = panels.get(next.fetch_add(1, Ordering::Relaxed)) {
            let problem = Problem {
                examples,
                labels,
                n_features,
                options,
                panel,
            };
            if problem.solve(&solution).is_err() {
                has_failed.store(true, Ordering::Relaxed);
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..options.n_threads.clamp(1, panels.len()) {
            // a thread that cannot be started leaves its panels to the others
            let _ = std::thread::Builder::new().spawn_scoped(scope, solve_panels);
        }
        solve_panels();
    });
    match has_failed.into_inner() {
        true => Err(OutOfMemory),
        false => Ok(()),
    }
}

/// Some neighbouring columns, and in how many lanes they are computed.
struct Panel {
    first: usize,
    n_columns: usize,
    n_lanes: usize,
}

fn panels(n_columns: usize) -> Result<Vec<Panel>> {
    let mut panels = Vec::new();
    let mut first = 0;
    while first < n_columns {
        let left = n_columns - first;
        let n_lanes = match left {
            1 => 1,
            2..=4 => 4,
            5..=8 => 8,
            _ => 16,
        };
        let panel = Panel {
            first,
            n_columns: left.min(n_lanes),
            n_lanes,
        };
        push(&mut panels, panel)?;
        first += n_lanes;
    }
    Ok(panels)
}

struct Problem<'a> {
    examples: &'a Examples,
    labels: &'a [u32],
    n_features: usize,
    options: &'a Options<'a>,
    panel: &'a Panel,
}

impl Problem<'_> {
    fn solve(&self, solution: &Mutex<Solution>) -> Result<()> {
        match self.panel.n_lanes {
            1 => self.solve_in_lanes::<1>(solution),
            4 => self.solve_in_lanes::<4>(solution),
            8 => self.solve_in_lanes::<8>(solution),
            _ => self.solve_in_lanes::<16>(solution),
        }
    }

    fn solve_in_lanes<const LANES: usize>(&self, solution: &Mutex<Solution>) -> Result<()> {
        let mut descent = Descent::<LANES>::new(self)?;
        descent.run(self.options.epochs, self.options.seed)?;
        let mut solution = solution.lock().unwrap_or_else(PoisonError::into_inner);
        descent.write(&mut solution);
        Ok(())
    }

    /// The lane of the column that the text belongs to; beyond all lanes where it belongs to none of them.
    fn positive_lane(&self, row: usize) -> usize {
        let label = self.labels[row] as usize;
        let column = if self.options.costs.len() == 1 {
            label.wrapping_sub(1)
        } else {
            label
        };
        column.wrapping_sub(self.panel.first)
    }
}

struct Descent<'a, const LANES: usize> {
    problem: &'a Problem<'a>,
    weights: Vec<[f32; LANES]>,
    bias: [f32; LANES],
    alphas: Vec<[f32; LANES]>,
    /// What a cost adds to the diagonal: for a text of the label, and for one of the others.
    own: [f32; LANES],
    other: [f32; LANES],
    /// Largest and smallest projected gradient of the epoch.
    violations: (f32, f32),
}

impl<'a, const LANES: usize> Descent<'a, LANES> {
    fn new(problem: &'a Problem<'a>) -> Result<Self> {
        let (mut own, mut other) = ([1.0; LANES], [1.0; LANES]);
        let first = problem.panel.first;
        for lane in 0..problem.panel.n_columns {
            let (positive, negative) = problem.options.costs[first + lane];
            own[lane] = (0.5 / positive) as f32;
            other[lane] = (0.5 / negative) as f32;
        }
        Ok(Descent {
            problem,
            weights: filled([0.0; LANES], problem.n_features)?,
            bias: [0.0; LANES],
            alphas: filled([0.0; LANES], problem.examples.len())?,
            own,
            other,
            violations: (0.0, 0.0),
        })
    }

    fn run(&mut self, epochs: usize, seed: u64) -> Result<()> {
        let all = self.problem.examples.len() as u32;
        let mut active = collected(0..all)?;
        let mut random = Random(seed);
        let mut bound = f32::INFINITY;
        let mut epoch = 0;
        while epoch < epochs {
            random.shuffle(&mut active);
            self.violations = (f32::NEG_INFINITY, f32::INFINITY);
            let whole = active.len() as u32 == all;
            self.pass(&mut active, bound);
            epoch += 1;
            let (largest, smallest) = self.violations;
            let converged = active.is_empty() || largest - smallest < TOLERANCE;
            if converged && whole {
                break;
            }
            bound = if largest > 0.0 {
                largest
            } else {
                f32::INFINITY
            };
            if converged || epoch + 1 == epochs {
                active.clear();
                extend(&mut active, 0..all)?;
                bound = f32::INFINITY;
            }
        }
        Ok(())
    }

    #[cfg(target_arch = "x86_64")]
    fn pass(&mut self, active: &mut Vec<u32>, bound: f32) {
        if std::arch::is_x86_feature_detected!("avx2") {
            // Safety: the processor has what the function is compiled for.
            return unsafe { self.pass_with_avx2(active, bound) };
        }
        self.visit_all(active, bound);
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn pass(&mut self, active: &mut Vec<u32>, bound: f32) {
        self.visit_all(active, bound);
    }

    /// As `visit_all`, the same bits: no operation is fused, there are only more lanes to an instruction.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn pass_with_avx2(&mut self, active: &mut Vec<u32>, bound: f32) {
        self.visit_all(active, bound);
    }

    #[inline(always)]
    fn visit_all(&mut self, active: &mut Vec<u32>, bound: f32) {
        active.retain(|&row| self.visit(row as usize, bound));
    }

    /// Improve the dual variables of one text; return whether to visit it again.
    #[inline(always)]
    fn visit(&mut self, row: usize, bound: f32) -> bool {
        let examples = self.problem.examples;
        let entries = examples.shared(row);
        let (shared_squares, alone_squares) = examples.squares[row];
        let positive = self.problem.positive_lane(row);
        let margins = self.margins(entries);
        let mut changes = [0.0; LANES];
        let (mut changed, mut settled) = (false, true);
        for lane in 0..self.problem.panel.n_columns {
            let (sign, cost) = if lane == positive {
                (1.0, self.own[lane])
            } else {
                (-1.0, self.other[lane])
            };
            let alpha = self.alphas[row][lane];
            let gradient = sign * margins[lane] - 1.0 + (alone_squares + cost) * alpha;
            if alpha == 0.0 && gradient >= 0.0 {
                settled &= gradient > bound;
                continue;
            }
            settled = false;
            self.violations.0 = self.violations.0.max(gradient);
            self.violations.1 = self.violations.1.min(gradient);
            let diagonal = 1.0 + shared_squares + alone_squares + cost;
            let improved = (alpha - gradient / diagonal).max(0.0);
            self.alphas[row][lane] = improved;
            changes[lane] = (improved - alpha) * sign;
            changed |= improved != alpha;
        }
        if changed {
            self.update(entries, &changes);
        }
        !settled
    }

    #[inline(always)]
    fn margins(&self, entries: &[Entry]) -> [f32; LANES] {
        let mut margins = self.bias;
        for entry in entries {
            let weights = &self.weights[entry.id as usize];
            for lane in 0..LANES {
                margins[lane] += entry.value * weights[lane];
            }
        }
        margins
    }

    #[inline(always)]
    fn update(&mut self, entries: &[Entry], changes: &[f32; LANES]) {
        for entry in entries {
            let weights = &mut self.weights[entry.id as usize];
            for lane in 0..LANES {
                weights[lane] += entry.value * changes[lane];
            }
        }
        for (bias, change) in self.bias.iter_mut().zip(changes) {
            *bias += change;
        }
    }

    fn write(&self, solution: &mut Solution) {
        let width = self.problem.options.costs.len();
        let (first, n) = (self.problem.panel.first, self.problem.panel.n_columns);
        for lane in 0..n {
            solution.intercept[first + lane] = f64::from(self.bias[lane]);
        }
        let rows = solution.weights.chunks_exact_mut(width);
        for (row, weights) in rows.zip(&self.weights) {
            row[first..first + n].copy_from_slice(&weights[..n]);
        }
        for row in 0..self.problem.examples.len() {
            let positive = self.problem.positive_lane(row);
            for entry in self.problem.examples.alone(row) {
                let weights = &mut solution.weights[entry.id as usize * width + first..][..n];
                for (lane, weight) in weights.iter_mut().enumerate() {
                    let sign = if lane == positive { 1.0 } else { -1.0 };
                    *weight = entry.value * self.alphas[row][lane] * sign;
                }
            }
        }
    }
}

/// SplitMix64: the order in which texts are visited.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        crate::features::mix(self.0)
    }

    fn shuffle(&mut self, values: &mut [u32]) {
        for end in (1..values.len()).rev() {
            let other = (u128::from(self.next()) * (end as u128 + 1)) >> 64;
            values.swap(end, other as usize);
        }
    }
}
