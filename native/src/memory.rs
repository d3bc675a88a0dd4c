//! Allocation that can fail. Whatever grows with the input is reserved here first, so that a lack of memory is an
//! error of the call and not the end of the process.

use std::collections::TryReserveError;

/// The system provides no more memory.
#[derive(Debug)]
pub struct OutOfMemory;

impl From<TryReserveError> for OutOfMemory {
    fn from(_: TryReserveError) -> Self {
        OutOfMemory
    }
}

pub type Result<T> = std::result::Result<T, OutOfMemory>;

/// Return an empty vector with room for `capacity` items.
pub fn with_capacity<T>(capacity: usize) -> Result<Vec<T>> {
    let mut items = Vec::new();
    items.try_reserve_exact(capacity)?;
    Ok(items)
}

/// Return `len` copies of `value`.
pub fn filled<T: Copy>(value: T, len: usize) -> Result<Vec<T>> {
    let mut items = with_capacity(len)?;
    items.resize(len, value);
    Ok(items)
}

/// Return a copy of a slice.
pub fn copied<T: Copy>(slice: &[T]) -> Result<Vec<T>> {
    let mut items = with_capacity(slice.len())?;
    items.extend_from_slice(slice);
    Ok(items)
}

/// Return the items of an iterator that knows how many they are.
pub fn collected<T>(source: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>> {
    let mut items = with_capacity(source.len())?;
    items.extend(source);
    Ok(items)
}

/// Append one item.
pub fn push<T>(items: &mut Vec<T>, item: T) -> Result<()> {
    items.try_reserve(1)?;
    items.push(item);
    Ok(())
}

/// Append the items of an iterator that knows how many they are.
pub fn extend<T>(items: &mut Vec<T>, source: impl ExactSizeIterator<Item = T>) -> Result<()> {
    items.try_reserve(source.len())?;
    items.extend(source);
    Ok(())
}

/// Move `value` to the heap.
pub fn boxed<T>(value: T) -> Result<Box<T>> {
    let mut items = with_capacity(1)?;
    items.push(value);
    let slice: *mut [T] = Box::into_raw(items.into_boxed_slice());
    // Safety: a slice of one item has the layout of the item, and was allocated as such.
    Ok(unsafe { Box::from_raw(slice.cast::<T>()) })
}

/// A vector that is filled by callbacks, which cannot return an error: a failure is remembered until `filled`.
pub struct Growing<T> {
    items: Vec<T>,
    has_failed: bool,
}

impl<T> Default for Growing<T> {
    fn default() -> Self {
        Growing {
            items: Vec::new(),
            has_failed: false,
        }
    }
}

impl<T> Growing<T> {
    pub fn clear(&mut self) {
        self.items.clear();
        self.has_failed = false;
    }

    #[inline(always)]
    pub fn push(&mut self, item: T) {
        if self.items.len() < self.items.capacity() || self.grow() {
            self.items.push(item);
        }
    }

    #[cold]
    fn grow(&mut self) -> bool {
        self.has_failed |= self.items.try_reserve(1).is_err();
        !self.has_failed
    }

    /// Return all items, or the error if one of them found no room.
    pub fn filled(&mut self) -> Result<&mut [T]> {
        match self.has_failed {
            true => Err(OutOfMemory),
            false => Ok(&mut self.items),
        }
    }
}
