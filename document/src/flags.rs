//! Which values of a document are flagged.
//!
//! Paths match laxly, as in SQL/JSON path, so that a document of an unexpected shape is not stored
//! in plain: a key also looks into arrays of any nesting, and `[*]` takes a value that is no array
//! for itself. All paths together are one deterministic automaton, so that a walk through a document
//! costs one look-up for each key.

use std::collections::{BTreeMap, BTreeSet};

use crate::path::{Path, PathStep};

/// Paths with what they stand for, ready to be matched.
#[derive(Debug)]
pub struct Flags<R> {
    rules: Vec<R>,
    states: Vec<Transitions>,
}

/// Where a walk is. Only of use with the [`Flags`] that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(u32);

/// What there is to know of the values that are reached in a state.
#[derive(Debug)]
struct Transitions {
    /// The rule of an array, taken as a whole.
    array: Option<usize>,
    /// The rule of any other value.
    value: Option<usize>,
    element: Option<State>,
    keys: Keys,
}

impl<R> Flags<R> {
    /// The flags that paths put on values. Where the same path comes twice, the later one counts.
    pub fn compile(rules: Vec<(Path, R)>) -> Self {
        let mut trie = Trie::default();
        trie.0.push(Branch::default());
        let mut kept = Vec::with_capacity(rules.len());
        for (index, (path, rule)) in rules.into_iter().enumerate() {
            trie.insert(&path, index);
            kept.push(rule);
        }
        Self { rules: kept, states: trie.states() }
    }

    /// Whether nothing is flagged.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The state in which the root of a document is reached.
    pub fn start(&self) -> State {
        State(0)
    }

    /// What the paths stand for, in the order in which they were given.
    pub fn rules(&self) -> &[R] {
        &self.rules
    }

    /// The flag on a value that was reached in `state`, as an index into [`Flags::rules`]. Of several
    /// it is that of the shortest path, then the first. A walk does not go on below it.
    #[inline]
    pub fn rule(&self, state: State, value_is_array: bool) -> Option<usize> {
        let state = self.states.get(state.0 as usize)?;
        if value_is_array { state.array } else { state.value }
    }

    /// The state of a key's value, in an object that was reached in `state`; `None` if nothing
    /// in it is flagged.
    #[inline]
    pub fn key(&self, state: State, key: &[u8]) -> Option<State> {
        self.states.get(state.0 as usize)?.keys.get(key)
    }

    /// The state of each element, in an array that was reached in `state`; `None` if nothing in them
    /// is flagged.
    #[inline]
    pub fn element(&self, state: State) -> Option<State> {
        self.states.get(state.0 as usize)?.element
    }
}

/// The keys that lead on from a state.
#[derive(Debug)]
struct Keys {
    /// A bit for each key, so that most others need not be compared.
    bits: u64,
    /// By length and bytes.
    sorted: Vec<(Box<[u8]>, State)>,
}

impl Keys {
    fn new(mut sorted: Vec<(Box<[u8]>, State)>) -> Self {
        sorted.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
        let bits = sorted.iter().fold(0, |bits, (key, _)| bits | Self::bit(key));
        Self { bits, sorted }
    }

    #[inline]
    fn get(&self, key: &[u8]) -> Option<State> {
        if self.bits & Self::bit(key) == 0 {
            return None;
        }
        let order = |other: &[u8]| (other.len(), other).cmp(&(key.len(), key));
        let index = self.sorted.binary_search_by(|(other, _)| order(other)).ok()?;
        self.sorted.get(index).map(|(_, state)| *state)
    }

    /// By length, first and last byte.
    #[inline]
    fn bit(key: &[u8]) -> u64 {
        let (Some(&first), Some(&last)) = (key.first(), key.last()) else { return 1 };
        1 << ((key.len() + 5 * usize::from(first) + 11 * usize::from(last)) % 64)
    }
}

/// The paths by their steps. The first branch is the root.
#[derive(Default)]
struct Trie(Vec<Branch>);

#[derive(Default)]
struct Branch {
    keys: BTreeMap<String, usize>,
    each: Option<usize>,
    /// The length of the path that ends here, and the index of its rule.
    rule: Option<(usize, usize)>,
}

/// Branches that are reached together.
type Set = BTreeSet<usize>;

impl Trie {
    fn insert(&mut self, path: &Path, rule: usize) {
        let mut at = 0;
        for step in path.steps() {
            let new = self.0.len();
            let branch = &mut self.0[at];
            at = match step {
                PathStep::Key(key) => *branch.keys.entry(key.clone()).or_insert(new),
                PathStep::Each => *branch.each.get_or_insert(new),
            };
            if at == new {
                self.0.push(Branch::default());
            }
        }
        self.0[at].rule = Some((path.steps().len(), rule));
    }

    /// The automaton, by subset construction. It has about as many states as the trie has branches:
    /// the sets that `[*]` leads to one after the other all have the same closure, and so the same
    /// keys.
    fn states(&self) -> Vec<Transitions> {
        let mut sets = vec![Set::from([0])];
        let mut numbers = BTreeMap::from([(Set::from([0]), State(0))]);
        let mut number = |set: Set, sets: &mut Vec<Set>| {
            *numbers.entry(set).or_insert_with_key(|set| {
                sets.push(set.clone());
                State((sets.len() - 1) as u32)
            })
        };
        let mut states = Vec::new();
        while let Some(set) = sets.get(states.len()).cloned() {
            let elements = self.with_each(&set);
            let closure = self.closure(&set);
            let mut keys = BTreeMap::<&str, Set>::new();
            for (key, branch) in closure.iter().flat_map(|&at| &self.0[at].keys) {
                keys.entry(key).or_default().insert(*branch);
            }
            let value = self.rule(&closure);
            let live = value.is_some() || !keys.is_empty();
            let state = |(key, set): (&str, Set)| (key.as_bytes().into(), number(set, &mut sets));
            let keys = Keys::new(keys.into_iter().map(state).collect());
            let element = live.then(|| number(elements, &mut sets));
            states.push(Transitions { array: self.rule(&set), value, element, keys });
        }
        states
    }

    fn with_each(&self, set: &Set) -> Set {
        set.iter().copied().chain(set.iter().filter_map(|&at| self.0[at].each)).collect()
    }

    fn closure(&self, set: &Set) -> Set {
        let chain = |&at: &usize| std::iter::successors(Some(at), |&at| self.0[at].each);
        set.iter().flat_map(chain).collect()
    }

    fn rule(&self, set: &Set) -> Option<usize> {
        set.iter().filter_map(|&at| self.0[at].rule).min().map(|(_, rule)| rule)
    }
}
