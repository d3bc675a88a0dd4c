//! Texts as files and Arrow hold them: where the records of a CSV begin, and texts as the code points that scoring
//! reads. A text with characters that Unicode's normalisation may change is left to Python, which knows Unicode.

const SPACE: u32 = ' ' as u32;

/// Return the offset of the last record that begins in `data`, which begins with one: quotes as Python's `csv`
/// reads them, a quote inside an unquoted cell being a character like any other.
pub fn last_record(data: &[u8], delimiter: u8) -> usize {
    let (mut last, mut at) = (0, 0);
    while let Some(end) = record_end(data, at, delimiter) {
        if end == data.len() {
            break;
        }
        (last, at) = (end, end);
    }
    last
}

/// Return where the record at `start` ends; None if the data end before it does.
fn record_end(data: &[u8], start: usize, delimiter: u8) -> Option<usize> {
    let mut at = start;
    loop {
        if data.get(at) == Some(&b'"') {
            at = quoted_end(data, at + 1)?;
        }
        // the rest of the cell, in which a quote opens nothing
        at += data[at..]
            .iter()
            .position(|&byte| byte == delimiter || byte == b'\n' || byte == b'\r')?;
        if data[at] == delimiter {
            at += 1;
            continue;
        }
        let is_pair = data[at] == b'\r' && data.get(at + 1) == Some(&b'\n');
        return Some(at + 1 + usize::from(is_pair));
    }
}

/// Return the offset after the quote that closes a quoted part; two quotes are one inside of it.
fn quoted_end(data: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += data[at..].iter().position(|&byte| byte == b'"')? + 1;
        if data.get(at) != Some(&b'"') {
            return Some(at);
        }
        at += 1;
    }
}

/// Of `character_kinds` in `tamis/normalization.py`: what may change, blanks, and what stays whatever it stands beside.
const CHANGING: u8 = 0;
const BLANK: u8 = 2;

/// Where `canonical_codes` writes.
pub struct Codes<'a> {
    /// Room for every byte and two spaces per text.
    pub codes: &'a mut [u32],
    /// `[texts]` code points of each, both spaces included.
    pub lengths: &'a mut [u64],
    /// `[texts]` 1 for a text that is left to Python: its code points are those of an empty text.
    pub others: &'a mut [u8],
}

/// Write the code points of texts in canonical form between spaces: runs of blanks as one space and none at the ends.
/// The text at `i` is `data[offsets[i]..offsets[i + 1]]` in UTF-8; `kinds` are those of characters by code point.
pub fn canonical_codes(data: &[u8], offsets: &[i64], kinds: &[u8], found: Codes) {
    let mut used = 0;
    for (i, ends) in offsets.windows(2).enumerate() {
        let text = &data[ends[0] as usize..ends[1] as usize];
        let codes = &mut found.codes[used..];
        let length = if text.is_ascii() {
            let code = |&byte| {
                if is_blank(byte) {
                    SPACE
                } else {
                    u32::from(byte)
                }
            };
            Some(write_codes(text.iter().map(code), codes))
        } else {
            unchanging(text, kinds).map(|text| {
                let is_blank = |code| kinds[code as usize] == BLANK;
                let code = |code| if is_blank(code) { SPACE } else { code };
                write_codes(text.chars().map(u32::from).map(code), codes)
            })
        };
        found.others[i] = u8::from(length.is_none());
        let length = length.unwrap_or_else(|| write_codes(std::iter::empty(), codes));
        found.lengths[i] = length as u64;
        used += length;
    }
}

/// Return the text if normalisation changes none of its characters.
fn unchanging<'a>(text: &'a [u8], kinds: &[u8]) -> Option<&'a str> {
    let text = std::str::from_utf8(text).ok()?;
    let stays = |one: char| {
        kinds
            .get(one as usize)
            .is_some_and(|&kind| kind != CHANGING)
    };
    text.chars().all(stays).then_some(text)
}

/// Write a text's code points; return how many.
fn write_codes(text: impl Iterator<Item = u32>, codes: &mut [u32]) -> usize {
    codes[0] = SPACE;
    let mut length = 1;
    for code in text {
        if code != SPACE || codes[length - 1] != SPACE {
            codes[length] = code;
            length += 1;
        }
    }
    // the space that ends the text may be there already, but an empty text has two
    if length == 1 || codes[length - 1] != SPACE {
        codes[length] = SPACE;
        length += 1;
    }
    length
}

/// Whether Python's `str.split` divides here.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | 0x1c..=0x1f | b' ')
}
