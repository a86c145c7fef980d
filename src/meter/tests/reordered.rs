//! What is read does not depend on what cannot matter: in which order the members of an object stand,
//! and which others stand there that nobody knows, however long. Every fixture is written anew so, by
//! dice that always fall alike, and comes in pieces of all sizes.

use super::*;
use crate::json::{Sink, Token};

/// So often each fixture is written anew.
const TIMES: u64 = 12;

/// A document in the form in which it can be written anew; texts as they stand.
enum Tree {
    Object(Vec<(Vec<u8>, Tree)>),
    Array(Vec<Tree>),
    Leaf(Vec<u8>),
}

/// Makes the tree of a document.
struct Planter<'d> {
    document: &'d [u8],
    /// The containers that are open, with the key that each has found last.
    open: Vec<(Tree, Vec<u8>)>,
    begun: u64,
    root: Option<Tree>,
}

impl Planter<'_> {
    fn put(&mut self, tree: Tree) {
        match self.open.last_mut() {
            Some((Tree::Object(members), key)) => members.push((std::mem::take(key), tree)),
            Some((Tree::Array(elements), _)) => elements.push(tree),
            _ => self.root = Some(tree),
        }
    }
}

impl Sink for Planter<'_> {
    fn begin(&mut self, token: Token, _: usize, at: u64) {
        self.begun = at;
        match token {
            Token::Object => self.open.push((Tree::Object(Vec::new()), Vec::new())),
            Token::Array => self.open.push((Tree::Array(Vec::new()), Vec::new())),
            _ => {}
        }
    }

    fn text(&mut self, _: &[u8]) {}

    fn end(&mut self, token: Token, _: usize, end: u64) {
        let text = self.document[self.begun as usize..end as usize].to_vec();
        match (token, self.open.last_mut()) {
            (Token::Key, Some((_, key))) => *key = text,
            (Token::Object | Token::Array, _) => {
                let (tree, _) = self.open.pop().expect("what ends has begun");
                self.put(tree);
            }
            _ => self.put(Tree::Leaf(text)),
        }
    }
}

/// A linear congruential generator (Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// The tree of a document, if it is an object.
fn planted(document: &[u8]) -> Option<Tree> {
    let mut planter = Planter { document, open: Vec::new(), begun: 0, root: None };
    let mut scanner = Scanner::lenient();
    scanner.push(document, &mut planter).ok()?;
    scanner.finish(&mut planter).ok()?;
    planter.root.filter(|root| matches!(root, Tree::Object(_)))
}

/// A member that means nothing anywhere.
fn unknown(dice: &mut Dice) -> (Vec<u8>, Tree) {
    let name = format!("\"x_{}\"", dice.below(1 << 30));
    let value = match dice.below(5) {
        0 => format!("\"{}\"", "long ".repeat(dice.below(1000))),
        1 => r#"{"x_a":{"x_b":[1,{"x_c":"}"},null]},"x_d":-1.5e3}"#.to_owned(),
        2 => format!("[{}0]", "[],".repeat(dice.below(500))),
        3 => "null".to_owned(),
        _ => "-9007199254740993".to_owned(),
    };
    (name.into_bytes(), Tree::Leaf(value.into_bytes()))
}

fn write(tree: Tree, adds: bool, dice: &mut Dice, out: &mut Vec<u8>) {
    match tree {
        Tree::Leaf(text) => out.extend(text),
        Tree::Array(elements) => {
            out.push(b'[');
            for (index, element) in elements.into_iter().enumerate() {
                out.extend_from_slice(if index > 0 { b"," } else { b"" });
                write(element, adds, dice, out);
            }
            out.push(b']');
        }
        Tree::Object(mut members) => {
            if adds && dice.below(2) == 0 {
                members.push(unknown(dice));
            }
            let names: std::collections::HashSet<_> = members.iter().map(|it| &it.0).collect();
            // Of two members of one name the order may matter.
            if names.len() == members.len() {
                for index in (1..members.len()).rev() {
                    members.swap(index, dice.below(index + 1));
                }
            }
            out.push(b'{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                out.extend_from_slice(if index > 0 { b", " } else { b"" });
                out.extend(name);
                out.push(b':');
                write(value, adds, dice, out);
            }
            out.push(b'}');
        }
    }
}

/// The fixture in other words; what is no document in one line stays as it is.
fn varied(fixture: &Fixture, adds: bool, dice: &mut Dice) -> Vec<u8> {
    let mut out = Vec::new();
    if fixture.kind == Kind::Json {
        match planted(&fixture.stream) {
            Some(tree) => write(tree, adds, dice, &mut out),
            None => out.extend(&fixture.stream),
        }
        return out;
    }
    for line in fixture.stream.split_inclusive(|byte| *byte == b'\n') {
        let tree = line.strip_prefix(b"data:").and_then(planted);
        match tree {
            Some(tree) if !line.contains(&b'\r') => {
                out.extend(b"data: ");
                write(tree, adds, dice, &mut out);
                out.push(b'\n');
            }
            _ => out.extend(line),
        }
    }
    out
}

#[test]
fn neither_order_nor_unknown_members_change_what_is_read() {
    let mut dice = Dice(1);
    for fixture in fixtures() {
        let Fixture { name, endpoint, kind, expected, .. } = &fixture;
        // Where nothing could be read, what else there is may be the answer.
        let is_read = ["text_bytes", "images"].iter().any(|it| !expected[it].is_null());
        let is_read = is_read || !expected["usage"].is_null();
        if !expected["unread_bytes"].is_null() {
            continue;
        }
        for time in 0..TIMES {
            let stream = varied(&fixture, is_read && time > 0, &mut dice);
            let mut meter = Meter::new(endpoint.setup(*kind, Hide::Nothing, None));
            let size = 1 + dice.below(stream.len().max(1));
            run(&mut meter, stream.chunks(size));
            let text = stream.escape_ascii();
            assert_eq!(described(&meter.reading()), *expected, "{name} as\n{text}");
        }
    }
}
