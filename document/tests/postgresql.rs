//! Documents as PostgreSQL 15 stored them, read with pageinspect from a table with
//! `STORAGE PLAIN`; their varlena headers are cut off.
//!
//! ```sql
//! INSERT INTO t VALUES (1, '{"a":1}'), (2, '"raw"'), (3, '[]'), (4, '{}'),
//!   (5, '[1.5,"x",null,true,{"k":"vv","long":[1,-20000.003,"abc"]},false,12345678901234567890]');
//! INSERT INTO t SELECT 6, jsonb_agg(CASE i % 4 WHEN 0 THEN to_jsonb(i) WHEN 1 THEN to_jsonb('s' || i)
//!   WHEN 2 THEN 'null' ELSE jsonb_build_object('k' || i, i) END ORDER BY i) FROM generate_series(0, 69) i;
//! INSERT INTO t SELECT 7, jsonb_object_agg('k' || i * i, CASE i % 3 WHEN 0 THEN to_jsonb(i)
//!   WHEN 1 THEN to_jsonb('s' || i) ELSE jsonb_build_array(i, 'x') END ORDER BY i) FROM generate_series(0, 39) i;
//! SELECT encode(substr(t_data, 5), 'hex') FROM heap_page_items(get_raw_page('t', 0));
//! ```

// a test that fails may panic
#![allow(clippy::unwrap_used, missing_docs)]
// the documents are from such a machine
#![cfg(target_endian = "little")]

// each test file uses a part of it
#[allow(dead_code)]
mod common;

use common::{Tree, container, decode, encode, key};
use fieldcrypt_document::rewrite::{Node, array, object};

fn documents() -> Vec<Vec<u8>> {
    let bytes = |line: &str| {
        let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        (0..line.len()).step_by(2).map(byte).collect()
    };
    include_str!("data/postgresql15.txt").lines().map(bytes).collect()
}

/// The node of a tree, from the inside out.
fn build(tree: &Tree) -> Node {
    match tree {
        Tree::Array(elements) => array(elements.iter().map(build).collect()).unwrap(),
        Tree::Object(pairs) => {
            object(pairs.iter().map(|(key, value)| (key.1.clone(), build(value))).collect())
                .unwrap()
        }
        scalar => common::node(scalar),
    }
}

#[test]
fn postgresql_stores_the_same_bytes() {
    let documents = documents();
    assert_eq!(documents.len(), 7);
    for bytes in documents {
        let document = container(&bytes);
        let tree = decode(document.root().unwrap()).unwrap();
        assert_eq!(encode(&tree), bytes);
        assert_eq!(build(&tree), Node::from_document(document).unwrap());
    }
}

#[test]
fn postgresqls_documents_are_understood() {
    let documents = documents();
    let tree = |index: usize| decode(container(&documents[index]).root().unwrap()).unwrap();
    let number = |bytes: &[u8]| Tree::Number(bytes.to_vec());
    let string = |text: &str| Tree::String(text.into());
    // 1 is a varlena of 8 bytes, NumericShort with weight 0, and the digit 1
    let one = || number(&[0x20, 0, 0, 0, 0, 0x80, 1, 0]);
    assert_eq!(tree(0), Tree::Object([(key(b"a"), one())].into()));
    assert_eq!(tree(1), string("raw"));
    assert_eq!(tree(2), Tree::Array(Vec::new()));
    assert_eq!(tree(3), Tree::Object([].into()));
    let Tree::Array(mixed) = tree(4) else { panic!("no array") };
    assert_eq!(mixed[1..4], [string("x"), Tree::Null, Tree::Bool(true)]);
    let Tree::Object(object) = &mixed[4] else { panic!("no object") };
    assert_eq!(object[&key(b"k")], string("vv"));
    let Tree::Array(long) = &object[&key(b"long")] else { panic!("no array") };
    assert_eq!((&long[0], &long[2]), (&one(), &string("abc")));

    let wide = container(&documents[5]);
    let last_object = wide.element(67).unwrap().map(|value| decode(value).unwrap());
    let Some(Tree::Object(pair)) = last_object else { panic!("no object") };
    assert!(pair.contains_key(&key(b"k67")));
    let squares = container(&documents[6]);
    for (name, expected) in [(b"k1".as_slice(), "s1"), (b"k1369", "s37")] {
        assert_eq!(decode(squares.get(name).unwrap().unwrap()), Ok(string(expected)));
    }
}
