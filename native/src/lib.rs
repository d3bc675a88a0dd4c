//! What of tamis is compiled: counting the features of texts, learning a linear model, scoring texts with it, and
//! the search for near duplicates. Called through ctypes: `tamis/native.py` has the signatures.
//!
//! Every function trusts its caller about pointers and lengths, and nothing about the texts. It returns a status:
//! a lack of memory is reported, and so is a panic, which never crosses to the caller.

mod counts;
mod examples;
mod feature_weights;
mod features;
mod linear;
mod memory;
mod near_duplicates;
mod solver;
mod texts;

use counts::{Counts, Labelled};
use examples::{Examples, Scaling};
use feature_weights::Weighting;
use features::{Characters, Settings, N_BLOCKS};
use linear::{Found, Model, Weights};
use memory::{boxed, copied, OutOfMemory, Result};
use std::panic::{catch_unwind, AssertUnwindSafe};
use texts::Codes;

/// Changes with every change of what is passed here, so that an old file is never called by new code.
#[no_mangle]
pub extern "C" fn tamis_interface() -> u32 {
    8
}

/// What every function returns; `check` of `tamis/native.py` raises the exceptions.
const OK: i32 = 0;
const OUT_OF_MEMORY: i32 = 1;
const PANICKED: i32 = 2;

fn guarded(work: impl FnOnce() -> Result<()>) -> i32 {
    // after a panic nothing of what `work` changed is read again, but idle tallies, which it had taken out
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => OK,
        Ok(Err(OutOfMemory)) => OUT_OF_MEMORY,
        Err(_) => PANICKED,
    }
}

/// As `std::slice::from_raw_parts`, also for the null pointer of an empty array.
unsafe fn from_raw_parts<'a, T>(first: *const T, len: usize) -> &'a [T] {
    match len {
        0 => &[],
        _ => std::slice::from_raw_parts(first, len),
    }
}

unsafe fn from_raw_parts_mut<'a, T>(first: *mut T, len: usize) -> &'a mut [T] {
    match len {
        0 => &mut [],
        _ => std::slice::from_raw_parts_mut(first, len),
    }
}

/// What a model is made of; the layout of `ModelParts` in `tamis/native.py`.
#[repr(C)]
pub struct Parts {
    classes: *const u8,
    lower: *const u32,
    n_characters: usize,
    size_steps: *const u64,
    n_size_steps: usize,
    sublinear: *const f64,
    n_sublinear: usize,
    features: *const u32,
    idf: *const f32,
    n_features: usize,
    weights: *const f32,
    intercept: *const f64,
    n_columns: usize,
    bits: u32,
    ngram_min: u32,
    ngram_max: u32,
    word_pairs: u32,
    shapes: u32,
    phrases: u32,
    blocks: u32,
    scale: f64,
}

/// Write the address of a new model; what the pointers lead to is copied. `tamis_model_free` frees it.
///
/// # Safety
/// Each pointer leads to as many numbers as the struct says; no number of columns or bits is 0.
#[no_mangle]
pub unsafe extern "C" fn tamis_model_new(parts: &Parts, made: &mut *mut Model) -> i32 {
    guarded(|| {
        *made = Box::into_raw(boxed(new_model(parts)?)?);
        Ok(())
    })
}

unsafe fn new_model(parts: &Parts) -> Result<Model> {
    let characters = Characters {
        classes: copied(from_raw_parts(parts.classes, parts.n_characters))?,
        lower: copied(from_raw_parts(parts.lower, parts.n_characters))?,
    };
    let settings = Settings {
        ngram_min: parts.ngram_min as usize,
        ngram_max: parts.ngram_max as usize,
        word_pairs: parts.word_pairs != 0,
        shapes: parts.shapes != 0,
        phrases: parts.phrases != 0,
        blocks: parts.blocks != 0,
        size_steps: copied(from_raw_parts(parts.size_steps, parts.n_size_steps))?,
    };
    let learned = Weights {
        bits: parts.bits,
        numbers: from_raw_parts(parts.features, parts.n_features),
        idf: from_raw_parts(parts.idf, parts.n_features),
        weights: from_raw_parts(parts.weights, parts.n_features * parts.n_columns),
        intercept: from_raw_parts(parts.intercept, parts.n_columns),
        scale: parts.scale,
    };
    let sublinear = from_raw_parts(parts.sublinear, parts.n_sublinear);
    Model::new(characters, settings, &learned, sublinear)
}

/// # Safety
/// `model` came from `tamis_model_new` and is not used any more.
#[no_mangle]
pub unsafe extern "C" fn tamis_model_free(model: *mut Model) {
    drop(Box::from_raw(model));
}

/// Write `[n_texts, columns]` margins of texts that lie end to end in `codes`.
///
/// # Safety
/// `lengths` are `n_texts` numbers whose sum is the number of `codes`; `margins` has the room.
#[no_mangle]
pub unsafe extern "C" fn tamis_model_margins(
    model: &Model,
    codes: *const u32,
    lengths: *const u64,
    n_texts: usize,
    margins: *mut f64,
) -> i32 {
    let lengths = from_raw_parts(lengths, n_texts);
    let codes = from_raw_parts(codes, lengths.iter().sum::<u64>() as usize);
    let margins = from_raw_parts_mut(margins, n_texts * model.n_columns());
    guarded(|| model.margins(codes, lengths, margins))
}

/// Write `[n_texts, classes]` probabilities of texts that lie end to end in `codes`.
///
/// # Safety
/// As for `tamis_model_margins`.
#[no_mangle]
pub unsafe extern "C" fn tamis_model_probabilities(
    model: &Model,
    codes: *const u32,
    lengths: *const u64,
    n_texts: usize,
    probabilities: *mut f64,
) -> i32 {
    let lengths = from_raw_parts(lengths, n_texts);
    let codes = from_raw_parts(codes, lengths.iter().sum::<u64>() as usize);
    let probabilities = from_raw_parts_mut(probabilities, n_texts * model.n_classes());
    guarded(|| model.probabilities(codes, lengths, probabilities))
}

/// Write texts as `tamis_model_margins` reads them, in canonical form; 1 in `others` for those left to Python.
///
/// # Safety
/// `offsets` are `n_texts + 1` ascending numbers within the `data`; `codes` has room for every byte and two spaces
/// per text.
#[no_mangle]
#[allow(clippy::too_many_arguments)] // three arrays in, three out
pub unsafe extern "C" fn tamis_canonical_codes(
    data: *const u8,
    offsets: *const i64,
    n_texts: usize,
    kinds: *const u8,
    n_kinds: usize,
    codes: *mut u32,
    lengths: *mut u64,
    others: *mut u8,
) -> i32 {
    let offsets = from_raw_parts(offsets, n_texts + 1);
    let end = offsets[n_texts] as usize;
    let found = Codes {
        codes: from_raw_parts_mut(codes, end - offsets[0] as usize + 2 * n_texts),
        lengths: from_raw_parts_mut(lengths, n_texts),
        others: from_raw_parts_mut(others, n_texts),
    };
    let (data, kinds) = (from_raw_parts(data, end), from_raw_parts(kinds, n_kinds));
    guarded(|| {
        texts::canonical_codes(data, offsets, kinds, found);
        Ok(())
    })
}

/// Write the offset of the last record of a CSV that begins in `data`, which begins with one.
///
/// # Safety
/// `data` has `length` bytes.
#[no_mangle]
pub unsafe extern "C" fn tamis_last_record(
    data: *const u8,
    length: usize,
    delimiter: u8,
    offset: &mut usize,
) -> i32 {
    let data = from_raw_parts(data, length);
    guarded(|| {
        *offset = texts::last_record(data, delimiter);
        Ok(())
    })
}

/// Write how many distinct features each text has, and these with how often each is there, text by text
/// and ascending, and into `total` how many they are in all. What the model knows plays no part.
///
/// # Safety
/// As for `tamis_model_margins`; `features` and `counts` have room for every occurrence of a feature.
#[no_mangle]
#[allow(clippy::too_many_arguments)] // three arrays in, four out
pub unsafe extern "C" fn tamis_model_count(
    model: &Model,
    codes: *const u32,
    lengths: *const u64,
    n_texts: usize,
    distinct: *mut u64,
    features: *mut u32,
    counts: *mut u16,
    room: usize,
    total: &mut usize,
) -> i32 {
    let lengths = from_raw_parts(lengths, n_texts);
    let codes = from_raw_parts(codes, lengths.iter().sum::<u64>() as usize);
    let found = Found {
        features: from_raw_parts_mut(features, room),
        counts: from_raw_parts_mut(counts, room),
    };
    let distinct = from_raw_parts_mut(distinct, n_texts);
    guarded(|| {
        *total = model.count(codes, lengths, distinct, found)?;
        Ok(())
    })
}

/// The counted features of texts; the layout of `CountedTextsParts` in `tamis/native.py`.
#[repr(C)]
pub struct CountedTexts {
    starts: *const u64,
    ids: *const u32,
    counts: *const u16,
    n_texts: usize,
    n_entries: usize,
    n_features: usize,
}

impl CountedTexts {
    unsafe fn counts(&self) -> Counts<'_> {
        Counts {
            starts: from_raw_parts(self.starts, self.n_texts + 1),
            ids: from_raw_parts(self.ids, self.n_entries),
            counts: from_raw_parts(self.counts, self.n_entries),
        }
    }
}

/// The rows to learn from; the layout of `LabelledRows` in `tamis/native.py`.
#[repr(C)]
pub struct LabelledRows {
    rows: *const u32,
    labels: *const u32,
    n_rows: usize,
    n_labels: usize,
}

impl LabelledRows {
    unsafe fn labelled(&self) -> Labelled<'_> {
        Labelled {
            rows: from_raw_parts(self.rows, self.n_rows),
            labels: from_raw_parts(self.labels, self.n_rows),
            n_labels: self.n_labels,
        }
    }
}

/// Write the margins of the texts at `rows`, whose features are counted: the same bits as of the texts.
///
/// # Safety
/// `row_of_id` has a number for each feature; `margins` has the room; every row and id is in range.
#[no_mangle]
pub unsafe extern "C" fn tamis_model_margins_of_counts(
    model: &Model,
    texts: &CountedTexts,
    rows: *const u32,
    n_rows: usize,
    row_of_id: *const u32,
    margins: *mut f64,
) -> i32 {
    let rows = from_raw_parts(rows, n_rows);
    let row_of_id = from_raw_parts(row_of_id, texts.n_features);
    let margins = from_raw_parts_mut(margins, n_rows * model.n_columns());
    guarded(|| model.margins_of_counts(&texts.counts(), rows, row_of_id, margins))
}

/// Write the weight of each feature, 0 for those that are not learned, and how many texts have it.
///
/// # Safety
/// `weights` and `documents` have room for every feature; labels are below `n_labels`, which is below 65,536.
#[no_mangle]
pub unsafe extern "C" fn tamis_feature_weights(
    texts: &CountedTexts,
    rows: &LabelledRows,
    min_documents: u32,
    log_ratios: u32,
    weights: *mut f64,
    documents: *mut u32,
) -> i32 {
    let weighting = Weighting {
        min_documents,
        log_ratios: log_ratios != 0,
    };
    let (counts, rows) = (texts.counts(), rows.labelled());
    let weights = from_raw_parts_mut(weights, texts.n_features);
    let documents = from_raw_parts_mut(documents, texts.n_features);
    guarded(|| feature_weights::feature_weights(&counts, &rows, &weighting, weights, documents))
}

/// How to learn a model; the layout of `SolverOptions` in `tamis/native.py`.
#[repr(C)]
pub struct SolverOptions {
    feature_weights: *const f32,
    blocks: *const u8,
    block_weights: [f64; N_BLOCKS],
    sublinear: *const f64,
    n_sublinear: usize,
    costs: *const (f64, f64),
    n_columns: usize,
    epochs: usize,
    seed: u64,
    n_threads: usize,
}

/// Write `[features, columns]` weights and `[columns]` intercepts of the support vector machines.
///
/// # Safety
/// The arrays are as long as `tamis_feature_weights` and the struct say; `weights` is zero.
#[no_mangle]
pub unsafe extern "C" fn tamis_solve(
    texts: &CountedTexts,
    rows: &LabelledRows,
    options: &SolverOptions,
    weights: *mut f32,
    intercept: *mut f64,
) -> i32 {
    let (n_features, n_columns) = (texts.n_features, options.n_columns);
    let scaling = Scaling {
        weights: from_raw_parts(options.feature_weights, n_features),
        blocks: from_raw_parts(options.blocks, n_features),
        block_weights: options.block_weights,
        sublinear: from_raw_parts(options.sublinear, options.n_sublinear),
    };
    let rows = rows.labelled();
    let chosen = solver::Options {
        costs: from_raw_parts(options.costs, n_columns),
        epochs: options.epochs,
        seed: options.seed,
        n_threads: options.n_threads,
    };
    let solution = solver::Solution {
        weights: from_raw_parts_mut(weights, n_features * n_columns),
        intercept: from_raw_parts_mut(intercept, n_columns),
    };
    guarded(|| {
        let examples = Examples::new(&texts.counts(), &rows, &scaling)?;
        solver::solve(&examples, rows.labels, n_features, &chosen, solution)
    })
}

/// Write for each text the smallest index of its cluster of near duplicates.
///
/// # Safety
/// `lengths` are `n_texts` numbers whose sum is the number of `codes`, none below 5; `roots` has the room.
#[no_mangle]
pub unsafe extern "C" fn tamis_near_duplicates(
    codes: *const u32,
    lengths: *const u64,
    n_texts: usize,
    threshold: f64,
    roots: *mut u64,
) -> i32 {
    let lengths = from_raw_parts(lengths, n_texts);
    let codes = from_raw_parts(codes, lengths.iter().sum::<u64>() as usize);
    let roots = from_raw_parts_mut(roots, n_texts);
    guarded(|| near_duplicates::clusters(codes, lengths, threshold, roots))
}
