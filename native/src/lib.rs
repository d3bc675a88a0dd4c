//! What of tamis is compiled: counting the features of texts, and scoring them with a linear model. Called by
//! `tamis/models/linear/compiled.py` through ctypes, and by nothing else.
//!
//! Every function trusts its caller about pointers and lengths, and nothing about the texts.

mod features;
mod linear;

use features::{Characters, Settings};
use linear::{Found, Model, Weights};
use std::slice::{from_raw_parts, from_raw_parts_mut};

/// Changes with every change of what is passed here, so that an old file is never called by new code.
#[no_mangle]
pub extern "C" fn tamis_interface() -> u32 {
    3
}

/// What a model is made of; the layout of `_Parts` in `compiled.py`.
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
}

/// Make a model; what the pointers lead to is copied. To be given to `tamis_model_free` in the end.
///
/// # Safety
/// Each pointer leads to as many numbers as the struct says; no number of columns or bits is 0.
#[no_mangle]
pub unsafe extern "C" fn tamis_model_new(parts: &Parts) -> *mut Model {
    let characters = Characters {
        classes: from_raw_parts(parts.classes, parts.n_characters).to_vec(),
        lower: from_raw_parts(parts.lower, parts.n_characters).to_vec(),
    };
    let settings = Settings {
        ngram_min: parts.ngram_min as usize,
        ngram_max: parts.ngram_max as usize,
        word_pairs: parts.word_pairs != 0,
        shapes: parts.shapes != 0,
        phrases: parts.phrases != 0,
        size_steps: from_raw_parts(parts.size_steps, parts.n_size_steps).to_vec(),
    };
    let learned = Weights {
        bits: parts.bits,
        numbers: from_raw_parts(parts.features, parts.n_features),
        idf: from_raw_parts(parts.idf, parts.n_features),
        weights: from_raw_parts(parts.weights, parts.n_features * parts.n_columns),
        intercept: from_raw_parts(parts.intercept, parts.n_columns),
    };
    let sublinear = from_raw_parts(parts.sublinear, parts.n_sublinear);
    let model = Model::new(characters, settings, &learned, sublinear);
    Box::into_raw(Box::new(model))
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
) {
    let lengths = from_raw_parts(lengths, n_texts);
    let codes = from_raw_parts(codes, lengths.iter().sum::<u64>() as usize);
    let margins = from_raw_parts_mut(margins, n_texts * model.n_columns());
    model.margins(codes, lengths, margins);
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
) {
    let lengths = from_raw_parts(lengths, n_texts);
    let codes = from_raw_parts(codes, lengths.iter().sum::<u64>() as usize);
    let probabilities = from_raw_parts_mut(probabilities, n_texts * model.n_classes());
    model.probabilities(codes, lengths, probabilities);
}

/// Write how many distinct features each text has, and these with how often each is there, text by text
/// and ascending; return how many they are in all. What the model knows plays no part.
///
/// # Safety
/// As for `tamis_model_margins`; `features` and `counts` have room for every occurrence of a feature.
#[no_mangle]
#[allow(clippy::too_many_arguments)] // three slices in, three out
pub unsafe extern "C" fn tamis_model_count(
    model: &Model,
    codes: *const u32,
    lengths: *const u64,
    n_texts: usize,
    distinct: *mut u64,
    features: *mut u32,
    counts: *mut u64,
    room: usize,
) -> usize {
    let lengths = from_raw_parts(lengths, n_texts);
    let codes = from_raw_parts(codes, lengths.iter().sum::<u64>() as usize);
    let found = Found {
        features: from_raw_parts_mut(features, room),
        counts: from_raw_parts_mut(counts, room),
    };
    model.count(codes, lengths, from_raw_parts_mut(distinct, n_texts), found)
}
