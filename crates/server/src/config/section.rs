//! Reading one table of the configuration, key by key, so that every mistake in it is found.
//!
//! Owns what is the same for all keys: types, expansion, the search for unknown keys and the nearest known
//! one. The keys that a reader asks for are the keys that exist: there is no second list of them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookfast_signature::Secret;

use super::expand;
use super::layers::{Environment, Node, Table, Value};
use super::mistakes::{Mistakes, Place};
use crate::nearest::nearest;
use crate::units;

/// What the readers of all sections share.
pub(super) struct Context<'a> {
    /// For `${NAME}`.
    pub environment: &'a Environment,
    pub mistakes: RefCell<Mistakes>,
    /// Every key that was asked for: the keys that exist.
    pub known: RefCell<BTreeSet<String>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(environment: &'a Environment, mistakes: Mistakes) -> Self {
        Self {
            environment,
            mistakes: RefCell::new(mistakes),
            known: RefCell::default(),
        }
    }
}

/// One table, being read.
pub(super) struct Section<'a> {
    context: &'a Context<'a>,
    /// Its path for people, such as `source.nylas`.
    path: String,
    /// Its path in the list of keys that exist, such as `source`.
    form: String,
    /// Where it begins.
    pub place: Place,
    entries: Option<&'a Table>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The whole tree.
    pub(super) fn root(context: &'a Context<'a>, tree: &'a Table, place: Place) -> Self {
        Self {
            context,
            path: String::new(),
            form: String::new(),
            place,
            entries: Some(tree),
            asked: RefCell::default(),
        }
    }

    /// A table inside, named `name` for people and of the form `form`.
    fn inside(&self, name: &str, form: &str, node: Option<&'a Node>) -> Self {
        let entries = match node.map(|node| &node.value) {
            Some(Value::Table(table)) => Some(table),
            Some(other) => {
                let place = node.map_or(&self.place, |node| &node.place);
                let problem = format!("expected a table, found {}", other.kind());
                self.context
                    .mistakes
                    .borrow_mut()
                    .add(place, join(&self.path, name), problem);
                None
            }
            None => None,
        };
        Self {
            context: self.context,
            path: join(&self.path, name),
            form: join(&self.form, form),
            place: node.map_or_else(|| self.place.clone(), |node| node.place.clone()),
            entries,
            asked: RefCell::default(),
        }
    }

    /// The table under `key`; an empty one where it is not set.
    pub(super) fn table(&self, key: &'static str) -> Self {
        let node = self.node(key);
        self.inside(key, key, node)
    }

    /// The tables under `key`, each with its name: `[policy.NAME]`.
    pub(super) fn named_tables(&self, key: &'static str) -> Vec<(String, Self)> {
        let section = self.table(key);
        let entries = section.entries.into_iter().flatten();
        entries
            .map(|(name, node)| (name.clone(), section.inside(name, "NAME", Some(node))))
            .collect()
    }

    /// The tables of a list under `key`: `[[source]]`. Each is shown by its name.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Self> {
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let Value::List(items) = &node.value else {
            self.mistake(
                key,
                format!("write [[{key}]] with two brackets: there may be several"),
            );
            return Vec::new();
        };
        let section = |(index, item): (usize, &'a Node)| {
            let name = if let Value::Table(table) = &item.value
                && let Some(Value::Text(name)) = table.get("name").map(|node| &node.value)
            {
                format!("{key}.{name}")
            } else {
                format!("{key}[{index}]")
            };
            self.inside(&name, key, Some(item))
        };
        items.iter().enumerate().map(section).collect()
    }

    /// What stands under `key`; the key exists from now on.
    fn node(&self, key: &'static str) -> Option<&'a Node> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.context.known.borrow_mut().insert(join(&self.form, key));
        self.entries.and_then(|entries| entries.get(key))
    }

    /// Where `key` stands, or failing that the table.
    pub(super) fn place_of(&self, key: &str) -> &Place {
        let key = key.split(['.', '[']).next().unwrap_or(key);
        let node = self.entries.and_then(|entries| entries.get(key));
        node.map_or(&self.place, |node| &node.place)
    }

    /// Whether `key` is set by more than a default.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    /// Whether somebody gave `key` a value, be it an empty one.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.is_set(key) && *self.place_of(key) != Place::Default
    }

    /// Notes a mistake at `key`.
    pub(super) fn mistake(&self, key: &str, problem: impl Into<String>) {
        let place = self.place_of(key);
        let path = join(&self.path, key);
        self.context.mistakes.borrow_mut().add(place, path, problem);
    }

    /// Notes a mistake of the whole table.
    pub(super) fn mistake_here(&self, problem: impl Into<String>) {
        let mut mistakes = self.context.mistakes.borrow_mut();
        mistakes.add(&self.place, self.path.clone(), problem);
    }

    fn wrong_kind(&self, key: &str, expected: &str, found: &Value) {
        self.mistake(key, format!("expected {expected}, found {}", found.kind()));
    }

    /// A text. An empty one counts as not set.
    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        let node = self.node(key)?;
        self.text_of(key, node).filter(|text| !text.is_empty())
    }

    fn text_of(&self, key: &str, node: &Node) -> Option<String> {
        match (&node.value, &node.place) {
            (Value::Text(text), Place::File(..)) => expand::variables(text, self.context.environment)
                .map_err(|error| self.mistake(key, error.to_string()))
                .ok(),
            (Value::Text(text), Place::Default | Place::Environment(_) | Place::Flag(_)) => {
                Some(text.clone())
            }
            (other, _) => {
                self.wrong_kind(key, "text in quotation marks", other);
                None
            }
        }
    }

    /// A text that `parse` understands. An empty one counts as not set.
    pub(super) fn parsed<T, E: Display>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(key)?;
        parse(&text)
            .map_err(|error| self.mistake(key, error.to_string()))
            .ok()
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.parsed(key, |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                format!("`{text}` is not known: write {}", words.join(" or "))
            })
        })
    }

    /// An integer between two bounds.
    pub(super) fn integer<T>(&self, key: &'static str, bounds: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<u64> + PartialOrd + Display + Copy,
    {
        let node = self.node(key)?;
        let digits = match (&node.value, &node.place) {
            (Value::Number(digits), _) => digits.clone(),
            (Value::Text(text), Place::Environment(_) | Place::Flag(_)) => text.clone(),
            (other, _) => {
                self.wrong_kind(key, "a whole number", other);
                return None;
            }
        };
        let number = digits
            .parse::<u64>()
            .ok()
            .and_then(|number| T::try_from(number).ok());
        let inside = number.filter(|number| bounds.contains(number));
        if inside.is_none() {
            let (low, high) = (bounds.start(), bounds.end());
            self.mistake(
                key,
                format!("`{digits}` is not a whole number from {low} to {high}"),
            );
        }
        inside
    }

    /// True or false.
    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        let node = self.node(key)?;
        match (&node.value, &node.place) {
            (Value::Boolean(value), _) => Some(*value),
            (Value::Text(text), Place::Environment(_)) if text == "true" || text == "false" => {
                Some(text == "true")
            }
            (other, _) => {
                self.wrong_kind(key, "true or false", other);
                None
            }
        }
    }

    /// A duration between two bounds.
    pub(super) fn duration(&self, key: &'static str, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let node = self.node(key)?;
        if let Value::Number(digits) = &node.value {
            let problem =
                format!("`{digits}` has no unit: write it in quotation marks, such as \"{digits}s\"");
            self.mistake(key, problem);
            return None;
        }
        self.parsed(key, |text| {
            let duration = units::duration(text).map_err(|error| error.to_string())?;
            if bounds.contains(&duration) {
                return Ok(duration);
            }
            let (low, high) = (bounds.start(), bounds.end());
            let (low, high) = (units::duration_text(*low), units::duration_text(*high));
            Err(format!("{text} is outside of {low} to {high}"))
        })
    }

    /// A size in bytes between two bounds, as text or a number.
    pub(super) fn size(&self, key: &'static str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let node = self.node(key)?;
        let text = match &node.value {
            Value::Number(digits) => digits.clone(),
            Value::Text(_) | Value::Boolean(_) | Value::List(_) | Value::Table(_) => {
                self.text_of(key, node)?
            }
        };
        let size = units::size(&text)
            .map_err(|error| self.mistake(key, error.to_string()))
            .ok()?;
        if bounds.contains(&size) {
            return Some(size);
        }
        let (low, high) = (units::size_text(*bounds.start()), units::size_text(*bounds.end()));
        self.mistake(key, format!("{text} is outside of {low} to {high}"));
        None
    }

    /// A size that memory can hold.
    pub(super) fn memory(&self, key: &'static str, bounds: RangeInclusive<u64>) -> Option<usize> {
        self.size(key, bounds).and_then(|size| usize::try_from(size).ok())
    }

    /// A list of texts; in the environment they are parted by commas.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        let node = self.node(key)?;
        match (&node.value, &node.place) {
            (Value::List(items), _) => {
                let texts = items.iter().map(|item| self.text_of(key, item));
                texts.collect::<Vec<_>>().into_iter().collect()
            }
            (Value::Text(text), Place::Environment(_)) => {
                let parts = text.split(',').map(str::trim);
                Some(parts.filter(|part| !part.is_empty()).map(str::to_owned).collect())
            }
            (other, _) => {
                self.wrong_kind(key, "a list of texts, such as [\"one\", \"two\"]", other);
                None
            }
        }
    }

    /// A list of texts that `parse` understands.
    pub(super) fn parsed_list<T, E: Display>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let texts = self.texts(key)?;
        let parsed: Vec<Option<T>> = texts
            .iter()
            .map(|text| {
                parse(text)
                    .map_err(|error| self.mistake(key, error.to_string()))
                    .ok()
            })
            .collect();
        parsed.into_iter().collect()
    }

    /// A table of texts, such as a scheme's settings.
    pub(super) fn text_table(&self, key: &'static str) -> std::collections::BTreeMap<String, String> {
        let Some(node) = self.node(key) else {
            return std::collections::BTreeMap::new();
        };
        let Value::Table(table) = &node.value else {
            self.wrong_kind(key, "a table of texts", &node.value);
            return std::collections::BTreeMap::new();
        };
        let entry = |(name, node): (&String, &Node)| {
            Some((name.clone(), self.text_of(&format!("{key}.{name}"), node)?))
        };
        table.iter().filter_map(entry).collect()
    }

    /// A secret: text, `${NAME}` or `file:PATH`.
    pub(super) fn secret(&self, key: &'static str) -> Option<Secret> {
        let node = self.node(key)?;
        self.secret_of(key, node)
    }

    /// A secret, as [`Section::secret`], but an empty text counts as not set.
    pub(super) fn secret_if_any(&self, key: &'static str) -> Option<Secret> {
        let node = self.node(key)?;
        let text = self.text_of(key, node)?;
        if text.is_empty() {
            return None;
        }
        self.secret_of(key, node)
    }

    /// A list of secrets.
    pub(super) fn secrets(&self, key: &'static str) -> Option<Vec<Secret>> {
        let node = self.node(key)?;
        let Value::List(items) = &node.value else {
            self.wrong_kind(
                key,
                "a list, such as [\"${NAME}\"] or [\"file:PATH\"]",
                &node.value,
            );
            return None;
        };
        let secrets = items.iter().map(|item| self.secret_of(key, item));
        secrets.collect::<Vec<_>>().into_iter().collect()
    }

    fn secret_of(&self, key: &str, node: &Node) -> Option<Secret> {
        let content = self.content_of(key, node)?;
        if content.is_empty() {
            self.mistake(
                key,
                "the secret is empty; leave the key out where there is none yet",
            );
            return None;
        }
        Some(Secret::new(content))
    }

    /// A text, or with `file:PATH` what that file holds.
    pub(super) fn content(&self, key: &'static str) -> Option<String> {
        let node = self.node(key)?;
        self.content_of(key, node)
    }

    fn content_of(&self, key: &str, node: &Node) -> Option<String> {
        let text = self.text_of(key, node)?;
        let Some(path) = text.strip_prefix("file:") else {
            return Some(text);
        };
        let read = expand::file(&resolved(path, &node.place));
        read.map_err(|error| self.mistake(key, error.to_string())).ok()
    }

    /// The path of a file, `file:` in front or not, relative to the configuration file.
    pub(super) fn path(&self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key)?;
        let path = text.strip_prefix("file:").unwrap_or(&text);
        Some(resolved(path, self.place_of(key)))
    }

    /// Reports every key that was not asked for, with the nearest that was.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        let unknown = self
            .entries
            .into_iter()
            .flatten()
            .filter(|(key, _)| !asked.contains(&key.as_str()));
        for (key, node) in unknown {
            let problem = match nearest(key, asked.iter().copied()) {
                Some(near) => format!("no such key; did you mean `{near}`?"),
                None => format!("no such key; the keys here are: {}", asked.join(", ")),
            };
            let path = join(&self.path, key);
            self.context.mistakes.borrow_mut().add(&node.place, path, problem);
        }
    }
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

/// `path`, where it is relative, from the directory of the file that names it.
fn resolved(path: &str, place: &Place) -> PathBuf {
    match place {
        Place::File(file, _) => file.parent().unwrap_or(Path::new("")).join(path),
        Place::Default | Place::Environment(_) | Place::Flag(_) => PathBuf::from(path),
    }
}
