//! What must hold for every document, and for bytes that are none.

// a test that fails may panic
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use common::{
    Tree, any_trees, container, decode, encode, for_all, key, node, paths, trees, wide_trees,
};
use fieldcrypt_document::flags::{Flags, State};
use fieldcrypt_document::jsonb::{Container, Kind, MAXIMUM_LENGTH, Malformed, Value, strings};
use fieldcrypt_document::path::{Path, PathStep};
use fieldcrypt_document::rewrite::{
    Change, MAXIMUM_DEPTH, Node, Step, Transform, array, document_of, give_back, merge, object,
    rewrite,
};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;

/// What a rule of the tests does to a value.
#[derive(Clone, Debug)]
enum Action {
    Keep,
    /// Keeps what is no value of an object.
    Remove,
    Replace(Tree),
}

fn rules() -> impl Strategy<Value = Vec<(Path, Action)>> + Clone {
    let action = prop_oneof![
        1 => Just(Action::Keep),
        1 => Just(Action::Remove),
        3 => trees().prop_map(Action::Replace),
    ];
    vec((paths().prop_map(|path| path.parse().unwrap()), action), 0..6)
}

struct Apply<'a>(&'a Flags<Action>);

impl Transform for Apply<'_> {
    /// With whether the value is one of an object.
    type State = (State, bool);
    type Error = Malformed;

    fn key(&mut self, state: &Self::State, key: &[u8]) -> Result<Option<Self::State>, Malformed> {
        Ok(self.0.key(state.0, key).map(|state| (state, true)))
    }

    fn element(&mut self, state: &Self::State, _: usize) -> Result<Option<Self::State>, Malformed> {
        Ok(self.0.element(state.0).map(|state| (state, false)))
    }

    fn value(
        &mut self,
        (state, in_object): Self::State,
        value: Value<'_>,
    ) -> Result<Change<Self::State>, Malformed> {
        let Some(rule) = self.0.rule(state, value.is_array()) else {
            return Ok(Change::Enter((state, in_object)));
        };
        Ok(match &self.0.rules()[rule] {
            Action::Remove if in_object => Change::Remove,
            Action::Keep | Action::Remove => Change::Keep,
            Action::Replace(tree) => Change::Replace(node(tree)),
        })
    }
}

/// The definition of matching by recursion. A node of the trie is the steps to it.
struct Naive<'a>(&'a [(Path, Action)]);

type Nodes = BTreeSet<Vec<String>>;

fn words(steps: &[PathStep]) -> Vec<String> {
    let word = |step: &PathStep| match step {
        PathStep::Each => "[*]".to_owned(),
        PathStep::Key(key) => format!(".{key}"),
    };
    steps.iter().map(word).collect()
}

impl Naive<'_> {
    fn follow(&self, node: &[String], step: &str) -> Option<Vec<String>> {
        let node = [node, &[step.to_owned()]].concat();
        self.0.iter().any(|(path, _)| words(path.steps()).starts_with(&node)).then_some(node)
    }

    fn with_each(&self, nodes: &Nodes) -> Nodes {
        nodes.iter().cloned().chain(nodes.iter().filter_map(|n| self.follow(n, "[*]"))).collect()
    }

    fn closure(&self, nodes: &Nodes) -> Nodes {
        let larger = self.with_each(nodes);
        if larger == *nodes { larger } else { self.closure(&larger) }
    }

    /// The shortest path's rule, then the first; of the same path's the last.
    fn rule(&self, nodes: &Nodes) -> Option<usize> {
        let index = |node: &Vec<String>| {
            let index = self.0.iter().rposition(|(path, _)| words(path.steps()) == *node)?;
            Some((node.len(), index))
        };
        nodes.iter().filter_map(index).min().map(|(_, index)| index)
    }

    /// The changed tree; `None` if it is removed.
    fn apply(
        &self,
        tree: &Tree,
        nodes: &Nodes,
        in_object: bool,
        changed: &mut bool,
    ) -> Option<Tree> {
        let flagged = match tree {
            Tree::Array(_) => self.rule(nodes),
            _ => self.rule(&self.closure(nodes)),
        };
        if let Some(rule) = flagged {
            return match &self.0[rule].1 {
                Action::Remove if in_object => {
                    *changed = true;
                    None
                }
                Action::Keep | Action::Remove => Some(tree.clone()),
                Action::Replace(other) => {
                    *changed = true;
                    Some(other.clone())
                }
            };
        }
        Some(match tree {
            Tree::Array(elements) => {
                let nodes = self.with_each(nodes);
                let apply = |tree| self.apply(tree, &nodes, false, changed);
                Tree::Array(elements.iter().filter_map(apply).collect())
            }
            Tree::Object(pairs) => {
                let closure = self.closure(nodes);
                let mut result = BTreeMap::new();
                for (key, value) in pairs {
                    let step = format!(".{}", String::from_utf8_lossy(&key.1));
                    let nodes: Nodes =
                        closure.iter().filter_map(|node| self.follow(node, &step)).collect();
                    if let Some(value) = self.apply(value, &nodes, true, changed) {
                        result.insert(key.clone(), value);
                    }
                }
                Tree::Object(result)
            }
            scalar => scalar.clone(),
        })
    }
}

/// The strings that are values, in the order in which they are stored.
fn strings_of<'a>(tree: &'a Tree, found: &mut Vec<&'a [u8]>) {
    match tree {
        Tree::String(bytes) => found.push(bytes),
        Tree::Array(elements) => elements.iter().for_each(|tree| strings_of(tree, found)),
        Tree::Object(pairs) => pairs.values().for_each(|tree| strings_of(tree, found)),
        Tree::Null | Tree::Bool(_) | Tree::Number(_) => {}
    }
}

fn check_reading(tree: &Tree) {
    let bytes = encode(tree);
    let document = container(&bytes);
    assert_eq!(decode(document.root().unwrap()).unwrap(), *tree);
    assert_eq!(document.as_bytes(), bytes);

    let mut expected = Vec::new();
    strings_of(tree, &mut expected);
    let mut found = Vec::new();
    let visit = |string| {
        found.push(string);
        Ok::<_, Malformed>(())
    };
    strings(document, visit).unwrap();
    assert_eq!(found, expected);

    let tree_at = |value: Option<Value<'_>>| value.map(|value| decode(value).unwrap());
    match tree {
        Tree::Object(pairs) => {
            assert_eq!((document.kind(), document.len()), (Kind::Object, pairs.len()));
            for (key, value) in pairs {
                assert_eq!(tree_at(document.get(&key.1).unwrap()).as_ref(), Some(value));
                let other = [&key.1[..], b"?"].concat();
                assert!(document.get(&other).unwrap().is_none());
            }
            assert!(document.element(0).unwrap().is_none());
            assert_eq!(document.elements().count(), 0);
        }
        Tree::Array(elements) => {
            assert_eq!((document.kind(), document.len()), (Kind::Array, elements.len()));
            for (index, element) in elements.iter().enumerate() {
                assert_eq!(tree_at(document.element(index).unwrap()).as_ref(), Some(element));
            }
            assert!(document.element(elements.len()).unwrap().is_none());
            assert!(document.get(b"a").unwrap().is_none());
            assert_eq!(document.pairs().count(), 0);
        }
        scalar => {
            assert_eq!((document.kind(), document.len()), (Kind::Scalar, 1));
            let elements: Vec<_> =
                document.elements().map(|element| decode(element.unwrap()).unwrap()).collect();
            assert_eq!(elements, std::slice::from_ref(scalar));
        }
    }

    let node = Node::from_document(document).unwrap();
    assert_eq!(node, common::node(tree));
    assert_eq!(*document_of(&node), bytes);
}

#[test]
fn what_is_encoded_is_read() {
    for_all(4000, trees(), |tree| check_reading(&tree));
    for_all(600, wide_trees(), |tree| check_reading(&tree));
}

#[test]
fn containers_are_built_as_postgresql_builds_them() {
    for_all(3000, any_trees(), |tree| match &tree {
        Tree::Array(elements) => {
            let built = array(elements.iter().map(node).collect()).unwrap();
            assert_eq!(built, Node::Container(encode(&tree)));
        }
        Tree::Object(pairs) => {
            // upside down, and each key twice
            let late = pairs.iter().rev().map(|(key, value)| (key.1.clone(), node(value)));
            let early = pairs.keys().map(|key| (key.1.clone(), Node::Bool(true)));
            let built = object(early.chain(late).collect()).unwrap();
            assert_eq!(built, Node::Container(encode(&tree)));
        }
        _ => {}
    });
}

fn check_rewriting(tree: &Tree, rules: &[(Path, Action)]) {
    let mut changed = false;
    let start = Nodes::from([Vec::new()]);
    let expected = Naive(rules).apply(tree, &start, false, &mut changed).unwrap();
    let flags = Flags::compile(rules.to_vec());
    let bytes = encode(tree);
    let state = (flags.start(), false);
    let rewritten = rewrite(container(&bytes), state, &mut Apply(&flags)).unwrap();
    assert_eq!(rewritten.is_some(), changed);
    assert_eq!(rewritten.as_deref().unwrap_or(&bytes), &encode(&expected), "{expected:?}");
    if let Some(rewritten) = rewritten {
        // the next case is written to its memory
        give_back(rewritten);
    }
}

#[test]
fn rewriting_is_as_changing_the_tree() {
    for_all(20_000, (trees(), rules()), |(tree, rules)| check_rewriting(&tree, &rules));
    for_all(4000, (wide_trees(), rules()), |(tree, rules)| check_rewriting(&tree, &rules));
}

#[test]
fn flags_follow_the_definition() {
    // without rules nothing is entered, and no state leads on
    let none = Flags::<()>::compile(Vec::new());
    assert!(none.is_empty());
    assert_eq!((none.key(none.start(), b"a"), none.element(none.start())), (None, None));

    for_all(20_000, (trees(), rules()), |(tree, rules)| {
        let flags = Flags::compile(rules.clone());
        assert_eq!(flags.rules().len(), rules.len());
        compare(&flags, Some(flags.start()), &Naive(&rules), &Nodes::from([Vec::new()]), &tree);
    });
}

fn compare(
    flags: &Flags<Action>,
    state: Option<State>,
    naive: &Naive<'_>,
    nodes: &Nodes,
    tree: &Tree,
) {
    let rule = |array| state.and_then(|state| flags.rule(state, array));
    assert_eq!(rule(true), naive.rule(nodes));
    assert_eq!(rule(false), naive.rule(&naive.closure(nodes)));
    match tree {
        Tree::Array(elements) => {
            let state = state.and_then(|state| flags.element(state));
            let nodes = naive.with_each(nodes);
            elements.iter().for_each(|tree| compare(flags, state, naive, &nodes, tree));
        }
        Tree::Object(pairs) => {
            let closure = naive.closure(nodes);
            for (key, tree) in pairs {
                let step = format!(".{}", String::from_utf8_lossy(&key.1));
                let nodes = closure.iter().filter_map(|node| naive.follow(node, &step)).collect();
                let state = state.and_then(|state| flags.key(state, &key.1));
                compare(flags, state, naive, &nodes, tree);
            }
        }
        _ => {}
    }
}

#[test]
fn flags_are_lax_and_the_outermost_wins() {
    let flags = |paths: &[&str]| {
        Flags::compile(paths.iter().map(|path| (path.parse().unwrap(), ())).collect())
    };
    let walk = |flags: &Flags<()>, keys: &str| {
        keys.chars().try_fold(flags.start(), |state, step| match step {
            '*' => flags.element(state),
            key => flags.key(state, &[key as u8]),
        })
    };
    // paths, steps taken, flag on an array, flag on another value
    let cases = [
        (["a.b"].as_slice(), "ab", Some(0), Some(0)),
        (&["a.b"], "a*b", Some(0), Some(0)),
        (&["a.b"], "**a**b", Some(0), Some(0)),
        (&["a.b"], "a", None, None),
        (&["a[*]"], "a", None, Some(0)),
        (&["a[*]"], "a*", Some(0), Some(0)),
        (&["a[*][*]"], "a*", None, Some(0)),
        (&["a[*].b"], "ab", Some(0), Some(0)),
        (&["[*]"], "", None, Some(0)),
        (&["a[*]", "a"], "a", Some(1), Some(1)),
        (&["a.b", "a[*].b"], "ab", Some(0), Some(0)),
        (&["a", "a"], "a", Some(1), Some(1)),
    ];
    for (paths, steps, array, other) in cases {
        let flags = flags(paths);
        let state = walk(&flags, steps).unwrap();
        assert_eq!(flags.rule(state, true), array, "{paths:?} {steps}");
        assert_eq!(flags.rule(state, false), other, "{paths:?} {steps}");
    }
    assert_eq!(walk(&flags(&["a.b"]), "b"), None);
    assert_eq!(walk(&flags(&["a.b"]), "ac"), None);
}

#[test]
fn many_paths_stay_a_small_automaton() {
    // every way to put [*] between ten keys: 1,024 paths
    let paths = (0..1024_u32).map(|bits| {
        let step = |i: u32| if bits >> i & 1 == 1 { ".a[*]" } else { ".a" };
        let path: String = (0..10).map(step).collect();
        (path.trim_start_matches('.').parse().unwrap(), ())
    });
    let flags = Flags::compile(paths.collect());
    let state = (0..10).try_fold(flags.start(), |state, _| flags.key(state, b"a")).unwrap();
    assert_eq!(flags.rule(state, true), Some(0));
}

fn merged(under: &Tree, over: &Tree) -> Tree {
    let (Tree::Object(under), Tree::Object(over)) = (under, over) else { return over.clone() };
    let mut result = under.clone();
    for (key, value) in over {
        let value = under.get(key).map_or_else(|| value.clone(), |low| merged(low, value));
        result.insert(key.clone(), value);
    }
    Tree::Object(result)
}

#[test]
fn merging_is_as_merging_the_trees() {
    for_all(10_000, (any_trees(), any_trees()), |(under, over)| {
        let result = merge(container(&encode(&under)), container(&encode(&over))).unwrap();
        assert_eq!(*result, encode(&merged(&under, &over)));
    });
}

#[test]
fn paths_are_read_as_they_are_written() {
    let bare = paths();
    let quoted = vec(any::<String>(), 1..5).prop_map(|keys| {
        let quote = |key: &String| format!("{key:?}").replace("\\'", "'");
        keys.iter().map(quote).collect::<Vec<_>>().join(".")
    });
    for_all(
        20_000,
        prop_oneof![bare, quoted, any::<String>(), r#"[\[\]*."\\ab ]{0,12}"#],
        |text| {
            if let Ok(path) = text.parse::<Path>() {
                assert_eq!(path.to_string().parse(), Ok(path));
            }
        },
    );
}

/// Replaces every string, and names what it visits in errors.
struct Everything {
    /// Strings are replaced by this.
    node: fn() -> Node,
    failing: &'static [u8],
    located: Vec<String>,
}

impl Everything {
    fn new() -> Self {
        Self { node: || Node::String(b"enc".to_vec()), failing: b"fail", located: Vec::new() }
    }
}

impl Transform for Everything {
    type State = ();
    type Error = Malformed;

    fn key(&mut self, (): &(), key: &[u8]) -> Result<Option<()>, Malformed> {
        if key == self.failing { Err(Malformed::NoPair) } else { Ok(Some(())) }
    }

    fn element(&mut self, (): &(), _: usize) -> Result<Option<()>, Malformed> {
        Ok(Some(()))
    }

    fn value(&mut self, (): (), value: Value<'_>) -> Result<Change<()>, Malformed> {
        Ok(match value {
            Value::String(bytes) if bytes == self.failing => Change::Remove,
            Value::String(_) => Change::Replace((self.node)()),
            _ => Change::Enter(()),
        })
    }

    fn locate(&mut self, error: Malformed, step: Step<'_>) -> Malformed {
        self.located.push(match step {
            Step::Key(key) => String::from_utf8_lossy(key).into_owned(),
            Step::Index(index) => index.to_string(),
        });
        error
    }
}

/// Everything that can be done to bytes.
fn exercise(bytes: &[u8]) {
    let Ok(document) = Container::new(bytes) else { return };
    let _ = document.root().and_then(decode);
    let _ = strings(document, |_| Ok::<_, Malformed>(()));
    let _ = document.get(b"a");
    let _ = document.element(document.len() / 2);
    for (key, _) in document.pairs().flatten() {
        let _ = document.get(key);
    }
    let _ = rewrite(document, (), &mut Everything::new());
    let flags = Flags::compile(vec![
        ("a.b".parse().unwrap(), Action::Remove),
        ("b".parse().unwrap(), Action::Replace(Tree::String(vec![0; 5]))),
    ]);
    let _ = rewrite(document, (flags.start(), false), &mut Apply(&flags));
    let _ = merge(document, document);
    if let Ok(node) = Node::from_document(document) {
        let _ = document_of(&node);
        let _ = array(vec![Node::Null, node]);
    }
}

#[test]
fn arbitrary_bytes_do_no_harm() {
    for_all(60_000, vec(any::<u8>(), 0..80), |bytes| exercise(&bytes));
    // headers and entries that are nearly right
    let flags = prop_oneof![0..8_u32, Just(13)].prop_map(|bits| bits << 28);
    let word = (flags, prop_oneof![0..40_u32, any::<u32>().prop_map(|word| word >> 4)]);
    let words = vec(word.prop_map(|(flags, length)| flags | length), 1..30);
    for_all(60_000, words, |words| {
        exercise(&words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>());
    });
}

#[test]
fn flipped_bits_do_no_harm() {
    let flips = vec(vec((any::<proptest::sample::Index>(), 0..8_u8), 1..4), 50);
    for_all(2400, (any_trees(), flips), |(tree, flips)| {
        let bytes = encode(&tree);
        for flips in flips {
            let mut bytes = bytes.clone();
            for (index, bit) in flips {
                *index.get_mut(&mut bytes) ^= 1_u8 << bit;
            }
            exercise(&bytes);
        }
    });
}

#[test]
fn truncated_documents_are_malformed() {
    for_all(500, trees(), |tree| {
        let bytes = encode(&tree);
        for length in 0..bytes.len() {
            exercise(&bytes[..length]);
            let root = Container::new(&bytes[..length]).and_then(Container::root).and_then(decode);
            assert_eq!(root, Err(Malformed::Format));
        }
    });
}

#[test]
fn errors_say_where() {
    let inner = Tree::Object([(key(b"a"), Tree::Null), (key(b"fail"), Tree::Null)].into());
    let string = || Tree::String(b"x".to_vec());
    let failing_key = Tree::Array(vec![string(), Tree::Object([(key(b"o"), inner)].into())]);
    let failing_value = Tree::Object(
        [(key(b"k"), Tree::Array(vec![string(), Tree::String(b"fail".to_vec())]))].into(),
    );
    for (tree, steps) in [
        (failing_key, ["fail", "o", "1"].as_slice()),
        (failing_value, ["1", "k"].as_slice()),
        (Tree::String(b"fail".to_vec()), [].as_slice()),
    ] {
        let mut transform = Everything::new();
        let result = rewrite(container(&encode(&tree)), (), &mut transform);
        assert_eq!(result, Err(Malformed::NoPair));
        assert_eq!(transform.located, steps);
    }
}

/// `depth` containers of one child each around a string: arrays, or objects with an empty key.
fn nested(depth: usize, objects: bool) -> Vec<u8> {
    let (header, key) = if objects { (0x2000_0001_u32, 1) } else { (0x4000_0001, 0) };
    let level = 8 + 4 * key;
    let mut bytes = Vec::with_capacity(level * depth + 1);
    for outside in 0..depth {
        let inside = level * (depth - outside - 1) + 1;
        let kind = if outside + 1 == depth { 0 } else { 0x5000_0000 };
        bytes.extend_from_slice(&header.to_ne_bytes());
        if objects {
            bytes.extend_from_slice(&0x8000_0000_u32.to_ne_bytes());
            bytes.extend_from_slice(&(kind | inside as u32).to_ne_bytes());
        } else {
            bytes.extend_from_slice(&(0x8000_0000 | kind | inside as u32).to_ne_bytes());
        }
    }
    bytes.push(b's');
    bytes
}

#[test]
fn deep_documents_need_little_stack() {
    let test = || {
        for objects in [false, true] {
            let deepest = nested(MAXIMUM_DEPTH, objects);
            let rewritten = rewrite(container(&deepest), (), &mut Everything::new()).unwrap();
            let mut strings_found = 0;
            let count = |string: &[u8]| {
                assert_eq!(string, b"enc");
                strings_found += 1;
                Ok::<_, Malformed>(())
            };
            strings(container(&rewritten.unwrap()), count).unwrap();
            assert_eq!(strings_found, 1);

            let too_deep = nested(MAXIMUM_DEPTH + 1, objects);
            let mut transform = Everything::new();
            let result = rewrite(container(&too_deep), (), &mut transform);
            assert_eq!(result, Err(Malformed::TooDeep));
            assert_eq!(transform.located.len(), MAXIMUM_DEPTH);
        }
        let deepest = nested(MAXIMUM_DEPTH, true);
        assert_eq!(*merge(container(&deepest), container(&deepest)).unwrap(), deepest);
        let too_deep = nested(MAXIMUM_DEPTH + 1, true);
        let result = merge(container(&too_deep), container(&too_deep));
        assert_eq!(result, Err(Malformed::TooDeep));

        // what is kept, and reading, have no limit
        let very_deep = nested(1_000_000, true);
        let flags = Flags::compile(vec![("a".parse().unwrap(), Action::Keep)]);
        let state = (flags.start(), false);
        assert_eq!(rewrite(container(&very_deep), state, &mut Apply(&flags)), Ok(None));
        strings(container(&very_deep), |_| Ok::<_, Malformed>(())).unwrap();
    };
    let thread = thread::Builder::new().stack_size(3 << 19).spawn(test).unwrap();
    thread.join().unwrap();
}

#[test]
fn documents_have_a_longest_length() {
    let half = || Node::String(vec![b'x'; MAXIMUM_LENGTH / 2 + 1]);
    assert_eq!(array(vec![half(), half()]), Err(Malformed::TooLong));
    let Node::Container(ref one) = array(vec![Node::String(vec![b'x']), Node::Null]).unwrap()
    else {
        panic!("no container")
    };
    let too_long: fn() -> Node = || Node::String(vec![b'x'; MAXIMUM_LENGTH - 8]);
    let mut transform = Everything { node: too_long, ..Everything::new() };
    assert_eq!(rewrite(container(one), (), &mut transform), Err(Malformed::TooLong));
    let root = document_of(&Node::String(vec![b'x']));
    transform.node = || Node::String(vec![b'x'; MAXIMUM_LENGTH - 7]);
    assert_eq!(rewrite(container(&root), (), &mut transform), Err(Malformed::TooLong));
    transform.node = || Node::String(vec![b'x'; MAXIMUM_LENGTH - 8]);
    assert!(rewrite(container(&root), (), &mut transform).is_ok());
}

#[test]
fn nodes_do_not_show_their_bytes() {
    let node = Node::String(b"secret".to_vec());
    assert_eq!(format!("{node:?}"), "String(.. 6 bytes)");
    assert_eq!(format!("{:?}", Node::Bool(true)), "Bool(..)");
}
