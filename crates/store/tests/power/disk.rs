//! A disk that remembers what was synced, and what a power cut may leave of the rest.
//!
//! Owns the model of a file system's promises (below). Must not know what the files mean.
//!
//! # The model
//! What POSIX promises and no more, except where Linux documents more and every file system of it keeps it:
//!
//! - A sync that came back makes durable what was done to that file (or to the names in that directory) before it
//!   began. `fdatasync` counts as `fsync`: of the metadata it leaves out only times; a changed size it writes
//!   (fdatasync(2)). `sync_file_range` promises nothing. Syncing a file says nothing about its name.
//! - Of what was not synced since, anything may have reached the disk: none, all, in order up to some point, or any
//!   subset in any order, of whole calls, of pages of 4096 bytes or of sectors of 512. A sector that holds a later
//!   write holds the earlier ones to the same bytes too: it is written from one buffer.
//! - A file's size on the disk may be any that it had since; what lies in it and was not written is zeros or, now
//!   and then, garbage.
//! - A truncation happened or did not, as a whole; what was written after it reached the disk only if it did.
//! - A name made, renamed or removed is durable once its directory was synced. Until then each such change may have
//!   happened without the others; a rename within one directory happens as a whole.
//! - After a sync that failed the process still sees what it wrote, but the disk may have any part of it, and later
//!   syncs do not write it: the kernel takes those pages for clean. Writing the same bytes again helps.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::chance::Chance;
use crate::record::Change;

const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// A node's place in [`Disk::nodes`].
type NodeId = usize;
const ROOT: NodeId = 0;

/// The disk under one directory.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    nodes: Vec<Node>,
    /// The machine's own numbers of the nodes.
    numbers: HashMap<u64, NodeId>,
    unrecorded: BTreeSet<String>,
    /// How many changes happened.
    at: usize,
}

#[derive(Clone, Debug)]
enum Node {
    File(File),
    Directory(Directory),
}

#[derive(Clone, Debug, Default)]
struct File {
    /// What is on the disk for certain, but for `pending`.
    durable: Vec<u8>,
    /// What a process reads.
    seen: Vec<u8>,
    /// What was done since, oldest first.
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
enum Pending {
    /// A part of a write that lies within one sector.
    Piece(Piece),
    Resize {
        at: usize,
        size: usize,
    },
}

#[derive(Clone, Debug)]
struct Piece {
    /// The number of the write.
    at: usize,
    offset: usize,
    data: Vec<u8>,
    /// A sync of it failed: no later one writes it.
    given_up: bool,
}

#[derive(Clone, Debug, Default)]
struct Directory {
    durable: BTreeMap<String, NodeId>,
    seen: BTreeMap<String, NodeId>,
    pending: Vec<NameChange>,
}

#[derive(Clone, Debug)]
struct NameChange {
    at: usize,
    takes: Option<String>,
    puts: Option<(String, NodeId)>,
}

/// What a disk holds when the power is back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    directories: Vec<String>,
    files: Vec<(String, Vec<u8>)>,
}

/// What survives of what was not synced.
#[derive(Clone, Copy, Debug)]
enum Survives {
    Nothing,
    Everything,
    /// What happened before this number.
    Before(usize),
    /// Each unit with this probability.
    Some(Unit, usize),
    /// All units but one.
    AllButOne(Unit),
    /// One unit.
    One(Unit),
}

/// What reaches the disk as a whole.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Call,
    Page,
    Sector,
}

impl Disk {
    /// A disk without files.
    pub(crate) fn empty() -> Self {
        Self {
            nodes: vec![Node::Directory(Directory::default())],
            numbers: HashMap::new(),
            unrecorded: BTreeSet::new(),
            at: 0,
        }
    }

    /// The disk as it is now, all of it durable.
    pub(crate) fn of_directory(root: &Path) -> Self {
        let mut disk = Self {
            nodes: Vec::new(),
            numbers: HashMap::new(),
            unrecorded: BTreeSet::new(),
            at: 0,
        };
        disk.take_in(root);
        disk
    }

    fn take_in(&mut self, path: &Path) -> NodeId {
        let found = fs::metadata(path).expect("what is listed is there");
        let id = self.nodes.len();
        self.numbers.insert(found.ino(), id);
        if found.is_file() {
            let content = fs::read(path).expect("the file can be read");
            self.nodes.push(Node::File(File {
                durable: content.clone(),
                seen: content,
                pending: Vec::new(),
            }));
            return id;
        }
        self.nodes.push(Node::Directory(Directory::default()));
        for (name, entry) in entries(path) {
            if name.ends_with(crate::subject::UNRECORDED) {
                continue;
            }
            let child = self.take_in(&entry);
            let directory = self.directory(id);
            directory.durable.insert(name.clone(), child);
            directory.seen.insert(name, child);
        }
        id
    }

    /// What happened next.
    pub(crate) fn apply(&mut self, change: &Change) {
        let at = self.at;
        self.at += 1;
        match change {
            Change::Start { root } => _ = self.numbers.insert(*root, ROOT),
            Change::Mark(_) | Change::Fault { .. } => {}
            Change::Create { path, file } => self.put(at, path, *file, Node::File(File::default())),
            Change::Make { path, file } => self.put(at, path, *file, Node::Directory(Directory::default())),
            Change::Write { file, offset, data } => self.file(*file).write(at, *offset, data),
            Change::Resize { file, size } => {
                let file = self.file(*file);
                file.seen.resize(*size, 0);
                file.pending.push(Pending::Resize { at, size: *size });
            }
            Change::Rename { from, to } => self.rename(at, from, to),
            Change::Remove { path } => {
                let (parent, name) = self.parent(path);
                self.directory(parent).change(at, Some(name), None);
            }
            Change::Sync { file, covers } => match self.node(*file) {
                Node::File(file) => file.synced(*covers),
                Node::Directory(directory) => directory.synced(*covers),
            },
            Change::SyncFailed { file, covers } => {
                if let Node::File(file) = self.node(*file) {
                    file.sync_failed(*covers);
                }
            }
            Change::Unrecorded { path } => _ = self.unrecorded.insert(path.clone()),
        }
    }

    /// What happened next had no effect on the disk.
    pub(crate) fn pass(&mut self) {
        self.at += 1;
    }

    fn node(&mut self, number: u64) -> &mut Node {
        let id = *self.numbers.get(&number).expect("a file that was made before");
        &mut self.nodes[id]
    }

    fn file(&mut self, number: u64) -> &mut File {
        match self.node(number) {
            Node::File(file) => file,
            Node::Directory(_) => panic!("only files are written"),
        }
    }

    fn directory(&mut self, id: NodeId) -> &mut Directory {
        match &mut self.nodes[id] {
            Node::Directory(directory) => directory,
            Node::File(_) => panic!("only directories hold names"),
        }
    }

    /// The directory that a path's last name is in, and that name.
    fn parent(&mut self, path: &str) -> (NodeId, String) {
        let mut names: Vec<_> = path.split('/').collect();
        let last = names.pop().unwrap_or_default().to_owned();
        let mut id = ROOT;
        for name in names {
            id = self.directory(id).seen[name];
        }
        (id, last)
    }

    fn put(&mut self, at: usize, path: &str, number: u64, node: Node) {
        let id = self.nodes.len();
        self.nodes.push(node);
        self.numbers.insert(number, id);
        let (parent, name) = self.parent(path);
        self.directory(parent).change(at, None, Some((name, id)));
    }

    fn rename(&mut self, at: usize, from: &str, to: &str) {
        let (old, old_name) = self.parent(from);
        let (new, new_name) = self.parent(to);
        let id = self.directory(old).seen[&old_name];
        if old == new {
            self.directory(old)
                .change(at, Some(old_name), Some((new_name, id)));
        } else {
            self.directory(new).change(at, None, Some((new_name, id)));
            self.directory(old).change(at, Some(old_name), None);
        }
    }

    /// How many changes happened.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// What a process sees that goes on after this one died: nothing is lost.
    pub(crate) fn seen(&self) -> Image {
        let mut image = Image::default();
        self.collect(
            ROOT,
            "",
            &mut image,
            &|directory, _| directory.seen.clone(),
            &|file, _| file.seen.clone(),
        );
        image
    }

    /// What a power cut leaves, as `seed` decides.
    pub(crate) fn after_cut(&self, seed: u64) -> Image {
        let mut chance = Chance::new(seed);
        let common = Survives::draw(&mut chance, self.at);
        let of_node = |id: NodeId| {
            let mut chance = Chance::of(seed, id as u64 + 1);
            let own = chance.percent(30);
            let survives = if own {
                Survives::draw(&mut chance, self.at)
            } else {
                common
            };
            (survives, chance)
        };
        let mut image = Image::default();
        self.collect(
            ROOT,
            "",
            &mut image,
            &|directory, id| {
                let (survives, mut chance) = of_node(id);
                directory.after_cut(survives, &mut chance)
            },
            &|file, id| {
                let (survives, mut chance) = of_node(id);
                file.after_cut(survives, &mut chance)
            },
        );
        for path in &self.unrecorded {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            let there = parent.is_empty() || image.directories.iter().any(|it| it == parent);
            if there && chance.percent(60) {
                let length = chance.below(3 * 32_768);
                image.files.push((path.clone(), garbage(&mut chance, length)));
            }
        }
        image
    }

    fn collect(
        &self,
        id: NodeId,
        path: &str,
        image: &mut Image,
        names: &dyn Fn(&Directory, NodeId) -> BTreeMap<String, NodeId>,
        content: &dyn Fn(&File, NodeId) -> Vec<u8>,
    ) {
        match &self.nodes[id] {
            Node::File(file) => image.files.push((path.to_owned(), content(file, id))),
            Node::Directory(directory) => {
                if id != ROOT {
                    image.directories.push(path.to_owned());
                }
                for (name, child) in names(directory, id) {
                    let path = if path.is_empty() {
                        name
                    } else {
                        format!("{path}/{name}")
                    };
                    self.collect(child, &path, image, names, content);
                }
            }
        }
    }
}

impl File {
    fn write(&mut self, at: usize, offset: usize, data: &[u8]) {
        put_bytes(&mut self.seen, offset, data);
        let (mut offset, mut data) = (offset, data);
        while !data.is_empty() {
            let (piece, rest) = data.split_at(data.len().min(SECTOR - offset % SECTOR));
            self.pending.push(Pending::Piece(Piece {
                at,
                offset,
                data: piece.to_vec(),
                given_up: false,
            }));
            offset += piece.len();
            data = rest;
        }
    }

    fn synced(&mut self, covers: usize) {
        let rest = self
            .pending
            .split_off(self.pending.partition_point(|it| it.at() < covers));
        let covered = std::mem::replace(&mut self.pending, rest);
        // A sector is written from one buffer, with what an earlier sync gave up on.
        let written: HashSet<usize> = covered.iter().filter_map(Pending::to_be_written).collect();
        let mut given_up = Vec::new();
        for change in covered {
            match change {
                Pending::Piece(piece) if piece.given_up && !written.contains(&piece.sector()) => {
                    given_up.push(piece);
                }
                Pending::Piece(piece) => put_bytes(&mut self.durable, piece.offset, &piece.data),
                Pending::Resize { size, .. } => {
                    self.durable.resize(size, 0);
                    given_up.retain(|piece| piece.offset < size);
                }
            }
        }
        // The size that those led to is no data.
        let end = given_up.iter().map(Piece::end).max().unwrap_or(0);
        self.durable.resize(self.durable.len().max(end), 0);
        self.pending
            .splice(0..0, given_up.into_iter().map(Pending::Piece));
    }

    fn sync_failed(&mut self, covers: usize) {
        for change in &mut self.pending {
            if let Pending::Piece(piece) = change {
                piece.given_up |= piece.at < covers;
            }
        }
    }

    fn after_cut(&self, survives: Survives, chance: &mut Chance) -> Vec<u8> {
        let pending = &self.pending[..self.reached(survives, chance)];
        let chosen = chosen_units(pending, survives, chance);
        // The last write to each sector that is there; the earlier ones are there with it.
        let mut last = HashMap::new();
        for (number, change) in pending.iter().enumerate() {
            if let Pending::Piece(piece) = change
                && chosen(piece)
            {
                last.insert(piece.sector(), number);
            }
        }
        let mut content = self.durable.clone();
        let mut sizes = vec![content.len()];
        for (number, change) in pending.iter().enumerate() {
            let size = *sizes.last().expect("there is one");
            match change {
                Pending::Piece(piece) => {
                    if last.get(&piece.sector()).is_some_and(|last| number <= *last) {
                        put_bytes(&mut content, piece.offset, &piece.data);
                    }
                    sizes.push(size.max(piece.end()));
                }
                Pending::Resize { size: smaller, .. } if *smaller < size => {
                    content.truncate(*smaller);
                    sizes = vec![*smaller];
                }
                Pending::Resize { size, .. } => sizes.push(*size),
            }
        }
        let size = match survives {
            Survives::Nothing => sizes[0],
            Survives::Everything | Survives::Before(_) => sizes[sizes.len() - 1],
            Survives::Some(..) | Survives::AllButOne(_) | Survives::One(_) => {
                sizes[chance.below(sizes.len())]
            }
        };
        let missing = size.saturating_sub(content.len());
        if chance.percent(12) {
            content.extend(garbage(chance, missing));
        }
        content.resize(size, 0);
        content
    }

    /// How much of what is pending can have happened: up to a truncation that did not.
    fn reached(&self, survives: Survives, chance: &mut Chance) -> usize {
        let mut size = self.durable.len();
        let mut truncations = vec![self.pending.len()];
        for (number, change) in self.pending.iter().enumerate() {
            match change {
                Pending::Piece(piece) => size = size.max(piece.end()),
                Pending::Resize { size: new, .. } => {
                    if *new < size {
                        truncations.push(number);
                    }
                    size = *new;
                }
            }
        }
        match survives {
            Survives::Nothing => 0,
            Survives::Everything => self.pending.len(),
            Survives::Before(at) => self.pending.partition_point(|it| it.at() < at),
            Survives::Some(..) | Survives::AllButOne(_) | Survives::One(_) => {
                truncations[chance.below(truncations.len())]
            }
        }
    }
}

/// Which pieces reached the disk.
fn chosen_units(pending: &[Pending], survives: Survives, chance: &mut Chance) -> Box<dyn Fn(&Piece) -> bool> {
    let seed = chance.next();
    let mut one = |unit: Unit| {
        let units: Vec<_> = pending.iter().filter_map(|it| it.unit(unit)).collect();
        units.get(chance.below(units.len())).copied()
    };
    match survives {
        Survives::Nothing => Box::new(|_| false),
        Survives::Everything | Survives::Before(_) => Box::new(|_| true),
        Survives::Some(unit, percent) => {
            Box::new(move |piece| Chance::of(seed, piece.unit(unit) as u64).percent(percent))
        }
        Survives::AllButOne(unit) => {
            let lost = one(unit);
            Box::new(move |piece| Some(piece.unit(unit)) != lost)
        }
        Survives::One(unit) => {
            let kept = one(unit);
            Box::new(move |piece| Some(piece.unit(unit)) == kept)
        }
    }
}

impl Pending {
    fn at(&self) -> usize {
        match self {
            Self::Piece(piece) => piece.at,
            Self::Resize { at, .. } => *at,
        }
    }

    /// The sector that the next sync writes because of it.
    fn to_be_written(&self) -> Option<usize> {
        match self {
            Self::Piece(piece) => (!piece.given_up).then(|| piece.sector()),
            Self::Resize { .. } => None,
        }
    }

    fn unit(&self, unit: Unit) -> Option<usize> {
        match self {
            Self::Piece(piece) => Some(piece.unit(unit)),
            Self::Resize { .. } => None,
        }
    }
}

impl Piece {
    fn sector(&self) -> usize {
        self.offset / SECTOR
    }

    fn end(&self) -> usize {
        self.offset + self.data.len()
    }

    fn unit(&self, unit: Unit) -> usize {
        match unit {
            Unit::Call => self.at,
            Unit::Page => self.offset / PAGE,
            Unit::Sector => self.sector(),
        }
    }
}

impl Directory {
    fn change(&mut self, at: usize, takes: Option<String>, puts: Option<(String, NodeId)>) {
        let change = NameChange { at, takes, puts };
        change.make(&mut self.seen);
        self.pending.push(change);
    }

    fn synced(&mut self, covers: usize) {
        let rest = self
            .pending
            .split_off(self.pending.partition_point(|it| it.at < covers));
        for change in std::mem::replace(&mut self.pending, rest) {
            change.make(&mut self.durable);
        }
    }

    fn after_cut(&self, survives: Survives, chance: &mut Chance) -> BTreeMap<String, NodeId> {
        let mut names = self.durable.clone();
        for change in &self.pending {
            let happened = match survives {
                Survives::Nothing => false,
                Survives::Everything => true,
                Survives::Before(at) => change.at < at,
                Survives::Some(..) | Survives::AllButOne(_) | Survives::One(_) => chance.percent(50),
            };
            if happened {
                change.make(&mut names);
            }
        }
        names
    }
}

impl NameChange {
    fn make(&self, names: &mut BTreeMap<String, NodeId>) {
        if let Some(taken) = &self.takes {
            names.remove(taken);
        }
        if let Some((name, id)) = &self.puts {
            names.insert(name.clone(), *id);
        }
    }
}

impl Survives {
    fn draw(chance: &mut Chance, at: usize) -> Self {
        let unit = [Unit::Call, Unit::Page, Unit::Sector][chance.below(3)];
        match chance.below(10) {
            0 | 1 => Self::Nothing,
            2 => Self::Everything,
            // Mostly among the last few: that is what is pending.
            3 | 4 => Self::Before(at.saturating_sub(chance.below(60))),
            5..8 => Self::Some(unit, [10, 50, 90][chance.below(3)]),
            8 => Self::AllButOne(unit),
            _ => Self::One(unit),
        }
    }
}

impl Image {
    /// Makes it under `root`, which is empty.
    pub(crate) fn write_to(&self, root: &Path) {
        for directory in &self.directories {
            fs::create_dir(root.join(directory)).expect("the image's directory can be made");
        }
        for (path, content) in &self.files {
            fs::write(root.join(path), content).expect("the image's file can be written");
        }
    }

    /// Where the files under `root` differ from this: then something escaped the record.
    pub(crate) fn differences(&self, root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        list(root, "", &mut found);
        let mut differences = Vec::new();
        for path in &found {
            let known = self.files.iter().find(|(known, _)| known == path);
            match known {
                Some((_, content)) if *content == fs::read(root.join(path)).expect("it can be read") => {}
                Some(_) => differences.push(format!("{path} has another content")),
                None => differences.push(format!("{path} is there")),
            }
        }
        let missing = self.files.iter().filter(|(path, _)| !found.contains(path));
        differences.extend(missing.map(|(path, _)| format!("{path} is missing")));
        differences
    }
}

/// The recorded files under `root`.
fn list(root: &Path, path: &str, found: &mut Vec<String>) {
    for (name, entry) in entries(&root.join(path)) {
        let path = if path.is_empty() {
            name
        } else {
            format!("{path}/{name}")
        };
        if entry.is_dir() {
            list(root, &path, found);
        } else if !path.ends_with(crate::subject::UNRECORDED) {
            found.push(path);
        }
    }
}

fn entries(path: &Path) -> Vec<(String, std::path::PathBuf)> {
    let entries = fs::read_dir(path).expect("the directory can be read");
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("the directory can be read");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        (name, entry.path())
    };
    entries.map(entry).collect()
}

fn put_bytes(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(data);
}

fn garbage(chance: &mut Chance, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(chance.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
