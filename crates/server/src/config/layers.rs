//! The layers of the configuration: defaults, file, environment, flags, one over the other.
//!
//! Owns the tree of values, each with the place it came from, and how layers are laid over each other. Must
//! not know any key: `sections` and `declare` read the tree.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistakes::{Mistakes, Place};

/// The defaults, as a file that people can read.
pub const DEFAULTS: &str = include_str!("../hookfast.default.toml");
/// The file that is read where none is named and it is there.
pub const USUAL_FILE: &str = "hookfast.toml";
const PREFIX: &str = "HOOKFAST_";
const SEPARATOR: &str = "__";

/// What the command line says about the configuration.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The file; `hookfast.toml` in the working directory, where it is there, unless one is named.
    pub config: Option<PathBuf>,
    /// `server.data`.
    pub data: Option<String>,
    /// `server.database`.
    pub database: Option<String>,
    /// `server.listen`.
    pub listen: Option<String>,
    /// `server.admin`.
    pub admin: Option<String>,
    /// `server.api`.
    pub api: Option<String>,
}

/// The environment, as far as it is text.
pub type Environment = BTreeMap<String, String>;

/// The environment of this process.
#[must_use]
pub fn environment() -> Environment {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}

/// A value and where it came from.
#[derive(Clone)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

/// A value. It may be a secret, so it has no `Debug`.
#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    /// An integer, a decimal number or a date, as it was written.
    Number(String),
    Boolean(bool),
    List(Vec<Node>),
    Table(Table),
}

pub(super) type Table = BTreeMap<String, Node>;

impl Value {
    /// What it is, for a message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Number(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Every layer laid over the one before it.
pub(super) struct Layers {
    pub tree: Table,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

impl Layers {
    /// Reads everything that counts. What cannot be read is among the mistakes.
    pub(super) fn gather(flags: &Flags, environment: &Environment, mistakes: &mut Mistakes) -> Self {
        let mut tree = parse(DEFAULTS, &|_| Place::Default, mistakes);
        let file = flags.config.clone().or_else(|| {
            let usual = PathBuf::from(USUAL_FILE);
            usual.exists().then_some(usual)
        });
        if let Some(file) = &file {
            lay(&mut tree, read(file, mistakes));
        }
        overlay_environment(&mut tree, environment, mistakes);
        overlay_flags(&mut tree, flags);
        Self { tree, file }
    }
}

fn read(file: &Path, mistakes: &mut Mistakes) -> Table {
    let shared: Arc<Path> = Arc::from(file);
    let place = |line| Place::File(shared.clone(), line);
    match std::fs::read(file).map(String::from_utf8) {
        Ok(Ok(text)) => parse(&text, &place, mistakes),
        Ok(Err(_)) => {
            mistakes.add(
                &place(0),
                "",
                "the file is not UTF-8 text; write it again as UTF-8",
            );
            Table::new()
        }
        Err(error) => {
            let problem =
                format!("cannot read the file: {error}; `hookfast init PROVIDER` writes one to start from");
            mistakes.add(&place(0), "", problem);
            Table::new()
        }
    }
}

/// Reads TOML. `place` says where a line is.
pub(super) fn parse(text: &str, place: &dyn Fn(usize) -> Place, mistakes: &mut Mistakes) -> Table {
    // Looked up rather than counted: a file may declare ten thousand destinations.
    let ends: Vec<_> = text.match_indices('\n').map(|(offset, _)| offset).collect();
    let place_of = |offset: usize| place(1 + ends.partition_point(|end| *end < offset));
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = place_of(error.span().map_or(0, |span| span.start));
        mistakes.add(&at, "", error.message().replace('\n', ", "));
    }
    if errors.is_empty() {
        table_of(table.into_inner(), &place_of)
    } else {
        Table::new()
    }
}

fn table_of(table: DeTable<'_>, place_of: &dyn Fn(usize) -> Place) -> Table {
    let entry = |(key, value): (Spanned<_>, Spanned<_>)| {
        let place = place_of(key.span().start);
        let key: std::borrow::Cow<'_, str> = key.into_inner();
        (key.into_owned(), node_of(value, place, place_of))
    };
    table.into_iter().map(entry).collect()
}

fn node_of(value: Spanned<DeValue<'_>>, place: Place, place_of: &dyn Fn(usize) -> Place) -> Node {
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => Value::Number(integer_text(number.as_str(), number.radix())),
        DeValue::Float(number) => Value::Number(number.as_str().to_owned()),
        DeValue::Datetime(time) => Value::Number(time.to_string()),
        DeValue::Boolean(value) => Value::Boolean(value),
        DeValue::Array(items) => {
            let item = |item: Spanned<DeValue<'_>>| {
                let place = place_of(item.span().start);
                node_of(item, place, place_of)
            };
            Value::List(items.into_iter().map(item).collect())
        }
        DeValue::Table(table) => Value::Table(table_of(table, place_of)),
    };
    Node { place, value }
}

/// An integer in decimal digits.
fn integer_text(digits: &str, radix: u32) -> String {
    match i128::from_str_radix(digits, radix) {
        Ok(number) => number.to_string(),
        Err(_) => digits.to_owned(),
    }
}

/// Lays `over` on `under`: tables are joined, everything else is replaced.
fn lay(under: &mut Table, over: Table) {
    for (key, node) in over {
        match (under.get_mut(&key), node) {
            (
                Some(Node {
                    value: Value::Table(under),
                    ..
                }),
                Node {
                    value: Value::Table(over),
                    ..
                },
            ) => lay(under, over),
            (_, node) => {
                under.insert(key, node);
            }
        }
    }
}

fn overlay_environment(tree: &mut Table, environment: &Environment, mistakes: &mut Mistakes) {
    for (name, value) in environment {
        let Some(path) = name.strip_prefix(PREFIX).filter(|path| path.contains(SEPARATOR)) else {
            continue;
        };
        let place = Place::Environment(name.clone());
        let path = path.to_ascii_lowercase();
        let keys: Vec<&str> = path.split(SEPARATOR).collect();
        let node = Node {
            place: place.clone(),
            value: Value::Text(value.clone()),
        };
        if let Err(list) = set(tree, &keys, node) {
            let problem = format!(
                "`{list}` is no table of keys: set it in the file, with ${{NAME}} for what the environment gives"
            );
            mistakes.add(&place, keys.join("."), problem);
        }
    }
}

/// Sets what stands at the path `keys`; fails with the key on the way that is no table.
fn set<'k>(tree: &mut Table, keys: &[&'k str], node: Node) -> Result<(), &'k str> {
    match keys {
        [] => Ok(()),
        [last] => {
            tree.insert((*last).to_owned(), node);
            Ok(())
        }
        [first, rest @ ..] => {
            if matches!(*first, "source" | "destination") {
                return Err(first);
            }
            let place = node.place.clone();
            let entry = tree.entry((*first).to_owned()).or_insert_with(|| Node {
                place,
                value: Value::Table(Table::new()),
            });
            match &mut entry.value {
                Value::Table(table) => set(table, rest, node),
                Value::Text(_) | Value::Number(_) | Value::Boolean(_) | Value::List(_) => Err(first),
            }
        }
    }
}

fn overlay_flags(tree: &mut Table, flags: &Flags) {
    let server = [
        ("data", "--data", &flags.data),
        ("database", "--database", &flags.database),
        ("listen", "--listen", &flags.listen),
        ("admin", "--admin", &flags.admin),
        ("api", "--api", &flags.api),
    ];
    for (key, flag, value) in server {
        if let Some(value) = value {
            let node = Node {
                place: Place::Flag(flag),
                value: Value::Text(value.clone()),
            };
            // A file whose `server` is no table is refused when the table is read.
            let _is_table = set(tree, &["server", key], node);
        }
    }
}
