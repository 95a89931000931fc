//! Compiled match rules: from a request head to the rule that serves it.
//!
//! - [`HostTable`]: the virtual host of a host name.
//! - [`RouteTable`]: the first rule of an ordered list that matches a head, with the reasons when asked ([`Reason`]).
//! - [`CompiledRewrite`], [`rewrite_path`], [`redirect_location`]: what a matched rule does to the path.
//!
//! Everything is a pure function of configuration and head. This crate does not know what a rule leads to: it answers
//! with indices. Read next: `table.rs`, then `condition.rs`.

mod condition;
mod explain;
mod host_table;
mod path_index;
mod redirect;
mod regular_expression;
mod rewrite;
mod table;

pub use explain::{ConditionKind, Mismatch, Reason, ReasonOutcome};
pub use host_table::HostTable;
pub use redirect::redirect_location;
pub use regular_expression::PatternError;
pub use rewrite::{CompiledRewrite, rewrite_path};
pub use table::{Found, RouteError, RouteTable, Rule, Site};
