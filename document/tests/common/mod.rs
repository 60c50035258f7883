//! A tree, the encoder of PostgreSQL's `jsonb_util.c` followed to the letter, and random trees.

use std::collections::BTreeMap;
use std::fmt::Debug;

use fieldcrypt_document::jsonb::{Container, Kind, Malformed, Value};
use fieldcrypt_document::rewrite::Node;
use proptest::collection::{btree_map, vec};
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::test_runner::{Config, TestRunner};

/// Runs `test` on that many random values, or on a tenth of them without optimisation.
pub fn for_all<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let cases = if cfg!(debug_assertions) { cases / 10 } else { cases };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&strategy, |value| {
        test(value);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// Length and bytes, as keys are sorted.
pub type Key = (usize, Vec<u8>);

#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Number(Vec<u8>),
    String(Vec<u8>),
    Array(Vec<Tree>),
    Object(BTreeMap<Key, Tree>),
}

pub fn key(key: &[u8]) -> Key {
    (key.len(), key.to_vec())
}

const JENTRY_OFFLENMASK: u32 = 0x0FFF_FFFF;
const JENTRY_TYPEMASK: u32 = 0x7000_0000;
const JENTRY_HAS_OFF: u32 = 0x8000_0000;
const JENTRY_ISSTRING: u32 = 0x0000_0000;
const JENTRY_ISNUMERIC: u32 = 0x1000_0000;
const JENTRY_ISBOOL_FALSE: u32 = 0x2000_0000;
const JENTRY_ISBOOL_TRUE: u32 = 0x3000_0000;
const JENTRY_ISNULL: u32 = 0x4000_0000;
const JENTRY_ISCONTAINER: u32 = 0x5000_0000;
const JB_OFFSET_STRIDE: usize = 32;
const JB_FSCALAR: u32 = 0x1000_0000;
const JB_FOBJECT: u32 = 0x2000_0000;
const JB_FARRAY: u32 = 0x4000_0000;

/// `convertToJsonb`
pub fn encode(tree: &Tree) -> Vec<u8> {
    // the varlena header, which is cut off again
    let mut buffer = vec![0; 4];
    match tree {
        Tree::Array(_) | Tree::Object(_) => convert_value(&mut buffer, tree),
        scalar => convert_array(&mut buffer, std::slice::from_ref(scalar), true),
    };
    buffer.split_off(4)
}

/// `convertJsonbValue` and `convertJsonbScalar`
fn convert_value(buffer: &mut Vec<u8>, tree: &Tree) -> u32 {
    match tree {
        Tree::Null => JENTRY_ISNULL,
        Tree::String(string) => {
            buffer.extend_from_slice(string);
            string.len() as u32 | JENTRY_ISSTRING
        }
        Tree::Number(number) => {
            let padlen = pad_buffer_to_int(buffer);
            buffer.extend_from_slice(number);
            JENTRY_ISNUMERIC | (padlen + number.len()) as u32
        }
        Tree::Bool(false) => JENTRY_ISBOOL_FALSE,
        Tree::Bool(true) => JENTRY_ISBOOL_TRUE,
        Tree::Array(elements) => convert_array(buffer, elements, false),
        Tree::Object(pairs) => convert_object(buffer, pairs),
    }
}

/// `convertJsonbArray`
fn convert_array(buffer: &mut Vec<u8>, elements: &[Tree], raw_scalar: bool) -> u32 {
    let base_offset = buffer.len();
    pad_buffer_to_int(buffer);
    let mut containerhead = elements.len() as u32 | JB_FARRAY;
    if raw_scalar {
        containerhead |= JB_FSCALAR;
    }
    buffer.extend_from_slice(&containerhead.to_ne_bytes());
    let mut jentry_offset = reserve_from_buffer(buffer, 4 * elements.len());
    let mut totallen = 0;
    for (i, element) in elements.iter().enumerate() {
        let mut meta = convert_value(buffer, element);
        totallen += meta & JENTRY_OFFLENMASK;
        if i.is_multiple_of(JB_OFFSET_STRIDE) {
            meta = (meta & JENTRY_TYPEMASK) | totallen | JENTRY_HAS_OFF;
        }
        copy_to_buffer(buffer, jentry_offset, meta);
        jentry_offset += 4;
    }
    JENTRY_ISCONTAINER | (buffer.len() - base_offset) as u32
}

/// `convertJsonbObject`
fn convert_object(buffer: &mut Vec<u8>, pairs: &BTreeMap<Key, Tree>) -> u32 {
    let base_offset = buffer.len();
    pad_buffer_to_int(buffer);
    let containerheader = pairs.len() as u32 | JB_FOBJECT;
    buffer.extend_from_slice(&containerheader.to_ne_bytes());
    let mut jentry_offset = reserve_from_buffer(buffer, 4 * pairs.len() * 2);
    let mut totallen = 0;
    for (i, (_, key)) in pairs.keys().enumerate() {
        buffer.extend_from_slice(key);
        let mut meta = JENTRY_ISSTRING | key.len() as u32;
        totallen += meta & JENTRY_OFFLENMASK;
        if i.is_multiple_of(JB_OFFSET_STRIDE) {
            meta = (meta & JENTRY_TYPEMASK) | totallen | JENTRY_HAS_OFF;
        }
        copy_to_buffer(buffer, jentry_offset, meta);
        jentry_offset += 4;
    }
    for (i, value) in pairs.values().enumerate() {
        let mut meta = convert_value(buffer, value);
        totallen += meta & JENTRY_OFFLENMASK;
        if (i + pairs.len()).is_multiple_of(JB_OFFSET_STRIDE) {
            meta = (meta & JENTRY_TYPEMASK) | totallen | JENTRY_HAS_OFF;
        }
        copy_to_buffer(buffer, jentry_offset, meta);
        jentry_offset += 4;
    }
    JENTRY_ISCONTAINER | (buffer.len() - base_offset) as u32
}

fn pad_buffer_to_int(buffer: &mut Vec<u8>) -> usize {
    let padlen = buffer.len().next_multiple_of(4) - buffer.len();
    buffer.resize(buffer.len() + padlen, 0);
    padlen
}

fn reserve_from_buffer(buffer: &mut Vec<u8>, length: usize) -> usize {
    let offset = buffer.len();
    buffer.resize(offset + length, 0xEE);
    offset
}

fn copy_to_buffer(buffer: &mut [u8], offset: usize, entry: u32) {
    buffer[offset..offset + 4].copy_from_slice(&entry.to_ne_bytes());
}

/// The tree of a value, by iteration; look-ups must agree.
pub fn decode(value: Value<'_>) -> Result<Tree, Malformed> {
    Ok(match value {
        Value::Null => Tree::Null,
        Value::Bool(value) => Tree::Bool(value),
        Value::Number(bytes) => Tree::Number(bytes.to_vec()),
        Value::String(bytes) => Tree::String(bytes.to_vec()),
        Value::Container(container) if container.kind() == Kind::Object => {
            let pair = |pair: Result<(&[u8], Value<'_>), Malformed>| {
                let (name, value) = pair?;
                Ok((key(name), decode(value)?))
            };
            Tree::Object(container.pairs().map(pair).collect::<Result<_, _>>()?)
        }
        Value::Container(container) => {
            let elements = container.elements().map(|element| decode(element?));
            Tree::Array(elements.collect::<Result<_, _>>()?)
        }
    })
}

/// The node of a tree.
pub fn node(tree: &Tree) -> Node {
    match tree {
        Tree::Null => Node::Null,
        Tree::Bool(value) => Node::Bool(*value),
        Tree::Number(bytes) => Node::Number(bytes.clone()),
        Tree::String(bytes) => Node::String(bytes.clone()),
        Tree::Array(_) | Tree::Object(_) => Node::Container(encode(tree)),
    }
}

pub fn container(bytes: &[u8]) -> Container<'_> {
    Container::new(bytes).unwrap()
}

fn leaf() -> impl Strategy<Value = Tree> + Clone {
    prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Bool),
        vec(any::<u8>(), 1..14).prop_map(Tree::Number),
        vec(any::<u8>(), 0..9).prop_map(Tree::String),
        vec(any::<u8>(), 0..200).prop_map(Tree::String),
    ]
}

/// Keys that the paths of [`paths`] often name.
fn keys() -> impl Strategy<Value = Key> + Clone {
    prop_oneof![3 => "[ab]", 1 => "[abc]{0,4}"].prop_map(|name| key(name.as_bytes()))
}

/// Small and nested.
pub fn trees() -> impl Strategy<Value = Tree> + Clone {
    leaf().prop_recursive(5, 60, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Tree::Array),
            btree_map(keys(), inner, 0..6).prop_map(Tree::Object),
        ]
    })
}

/// With containers of up to 100 children, at two levels, so that offset entries count.
pub fn wide_trees() -> impl Strategy<Value = Tree> + Clone {
    let leaf = || prop_oneof![9 => leaf(), 1 => trees()];
    let wide_keys = || "[abc]{0,4}".prop_map(|name| key(name.as_bytes()));
    let wide = prop_oneof![
        vec(leaf(), 0..100).prop_map(Tree::Array),
        btree_map(wide_keys(), leaf(), 0..100).prop_map(Tree::Object),
    ];
    let outer = prop_oneof![4 => trees(), 1 => wide.clone()];
    prop_oneof![
        wide,
        vec(outer.clone(), 30..40).prop_map(Tree::Array),
        btree_map(wide_keys(), outer, 15..40).prop_map(Tree::Object),
    ]
}

pub fn any_trees() -> impl Strategy<Value = Tree> + Clone {
    prop_oneof![8 => trees(), 1 => wide_trees()]
}

/// Texts of paths that often match.
pub fn paths() -> impl Strategy<Value = String> + Clone {
    let step = prop_oneof![
        3 => "[ab]".prop_map(|name| format!(".{name}")),
        1 => "[abc]{1,4}".prop_map(|name| format!(".{name}")),
        2 => Just("[*]".to_owned()),
    ];
    vec(step, 1..5).prop_map(|steps| steps.concat().trim_start_matches('.').to_owned())
}
