//! Two documents made one.

use std::cmp::Ordering;
use std::{mem, vec};

use zeroize::Zeroizing;

use crate::jsonb::{CONTAINER, Container, Kind, Malformed, OBJECT, Value};
use crate::output::{Open, Output};
use crate::rewrite::MAXIMUM_DEPTH;

/// The pairs of both objects together. Where both have a key, two objects are merged in turn, and
/// of anything else the value of `over` wins. `over` also wins if the documents are not both
/// objects.
///
/// # Errors
/// [`Malformed::Format`] if either cannot be read; [`Malformed::TooDeep`] if more than
/// [`MAXIMUM_DEPTH`] objects within each other are in both; [`Malformed::TooLong`].
pub fn merge(under: Container<'_>, over: Container<'_>) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    if (under.kind(), over.kind()) != (Kind::Object, Kind::Object) {
        return Ok(Zeroizing::new(over.as_bytes().to_vec()));
    }
    let mut output = Output::with_capacity(under.as_bytes().len() + over.as_bytes().len());
    let mut top = Union::open(&mut output, under, over)?;
    let mut outer = Vec::new();
    loop {
        match top.values.next() {
            Some(Merged::One(value)) => output.child(&mut top.object, value),
            Some(Merged::Both(under, over)) => {
                if outer.len() + 1 == MAXIMUM_DEPTH {
                    return Err(Malformed::TooDeep);
                }
                let inner = Union::open(&mut output, under, over)?;
                outer.push(mem::replace(&mut top, inner));
            }
            None => {
                let start = output.close(top.object)?;
                let Some(union) = outer.pop() else { return Ok(output.finish()) };
                top = union;
                output.child_since(&mut top.object, CONTAINER, start);
            }
        }
    }
}

/// A merged object whose keys are written, and the values that are not.
struct Union<'a> {
    object: Open,
    values: vec::IntoIter<Merged<'a>>,
}

enum Merged<'a> {
    One(Value<'a>),
    Both(Container<'a>, Container<'a>),
}

impl<'a> Union<'a> {
    fn open(
        output: &mut Output,
        under: Container<'a>,
        over: Container<'a>,
    ) -> Result<Self, Malformed> {
        let capacity = under.len() + over.len();
        let (mut keys, mut values) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        let (mut unders, mut overs) = (under.pairs(), over.pairs());
        let (mut under, mut over) = (unders.next().transpose()?, overs.next().transpose()?);
        loop {
            let order = match (&under, &over) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => (a.len(), a).cmp(&(b.len(), b)),
            };
            let low = if order.is_le() {
                mem::replace(&mut under, unders.next().transpose()?)
            } else {
                None
            };
            let high = if order.is_ge() {
                mem::replace(&mut over, overs.next().transpose()?)
            } else {
                None
            };
            keys.extend(high.or(low).map(|(key, _)| key));
            values.extend(match (low, high) {
                (Some((_, Value::Container(low))), Some((_, Value::Container(high))))
                    if low.kind() == Kind::Object && high.kind() == Kind::Object =>
                {
                    Some(Merged::Both(low, high))
                }
                (low, high) => high.or(low).map(|(_, value)| Merged::One(value)),
            });
        }
        let mut object = output.open(OBJECT, keys.len())?;
        for key in keys {
            output.child(&mut object, Value::String(key));
        }
        Ok(Self { object, values: values.into_iter() })
    }
}
