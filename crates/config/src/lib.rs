//! Configuration text to a validated mesh.
//!
//! [`load`] takes the text of any number of files and the `--service` flags and returns a [`Mesh`] or, with every
//! finding of one pass, the reasons why there is none. It knows YAML, Istio's and Kubernetes' documents and the
//! rules between them; it does not know files, sockets or time, and it never decides anything at run time.
//!
//! The way of a text: `tree` (text to nodes with places), `kind` (documents to objects, through the field tables of
//! `table` and the walker in `field`), `union` (one list of services), `merge` (one destination rule per host),
//! `check` (what objects say about each other). Read next: `load.rs`.

pub mod balancing;
mod check;
mod duration;
mod field;
mod finding;
mod flag;
mod health;
mod kind;
mod load;
mod merge;
mod name;
mod node;
mod record;
mod reference;
mod scalar;
mod table;
mod text;
mod tree;
mod union;

use std::sync::Arc;

use meshwright_model::{Diagnostic, Mesh};

pub use flag::{FlagEndpoint, ServiceFlag, locality};
pub use load::load;
pub use reference::{FieldReference, FieldSupport, KindReference, reference};
pub use union::registered_service;

/// One text to read: a file, standard input, or a text made by a test.
#[derive(Clone, Debug)]
pub struct Source {
    /// How findings call it: the path as given, or `<stdin>`.
    pub name: Arc<str>,
    /// The bytes as read. They need not be UTF-8: that is a finding.
    pub text: Vec<u8>,
}

impl Source {
    /// A source of that name and text.
    pub fn new(name: &str, text: impl Into<Vec<u8>>) -> Self {
        Self { name: Arc::from(name), text: text.into() }
    }
}

/// What is not in the text.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespace of objects that name none; `default` by default.
    pub namespace: String,
    /// Services given on the command line. Each serves every port of its name and replaces other sources for it.
    pub services: Vec<ServiceFlag>,
    /// Path of the health check of their endpoints (`--health`); `None` is no check.
    pub health: Option<String>,
    /// Services of the service registry, by namespace and name. They have no ports and no endpoints here: those come at run
    /// time. A name that another source has too is that source's.
    pub registered: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        let namespace = meshwright_model::host::DEFAULT_NAMESPACE.to_owned();
        Self { namespace, services: Vec::new(), health: None, registered: Vec::new() }
    }
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The mesh; `None` as soon as one finding is an error.
    pub mesh: Option<Mesh>,
    /// All findings of all sources, in the order of the input.
    pub diagnostics: Vec<Diagnostic>,
}

/// Largest text that is read, in bytes: 16 MiB.
pub const MAX_SOURCE_BYTES: usize = 16 * 1024 * 1024;
/// Deepest nesting of sequences and mappings, aliases expanded: 128.
pub const MAX_DEPTH: usize = 128;
/// Most nodes of one text after aliases are expanded: 1,000,000.
pub const MAX_NODES: usize = 1_000_000;
