//! Prints the time of one lookup in tables of 10 and 1,000 rules: `cargo run --release -p meshwright-route --example
//! find_speed`.

use std::hint::black_box;
use std::time::Instant;

use meshwright_message::{RequestHead, Scheme};
use meshwright_model::{HeaderMatch, HttpMatch, StringMatch};
use meshwright_route::{RouteTable, Rule, Site};

const LOOKUPS: u32 = 1_000_000;

fn main() {
    for size in [10, 1_000] {
        let rules: Vec<Rule> = (0..size).map(rule).chain([Rule::default()]).collect();
        let table = RouteTable::compile(&rules).expect("the rules are valid");
        for target in ["/service-3/users/7?full=1", "/exact/9", "/none/of/them"] {
            println!("{size:>5} rules  {target:<28} {:>7.1} ns", nanoseconds(&table, target));
        }
    }
}

/// Mostly prefixes, some exact paths, some that want a header as well.
fn rule(number: usize) -> Rule {
    let mut wanted = HttpMatch::default();
    match number % 5 {
        4 => wanted.uri = Some(StringMatch::Exact(format!("/exact/{number}"))),
        kind => {
            wanted.uri = Some(StringMatch::Prefix(format!("/service-{number}/")));
            if kind == 0 {
                wanted.headers = vec![("x-canary".to_owned(), HeaderMatch::Present)];
            }
        }
    }
    Rule { matches: vec![wanted] }
}

#[allow(clippy::disallowed_methods, reason = "a measurement needs the clock")]
fn nanoseconds(table: &RouteTable, target: &str) -> f64 {
    let path_len = target.find('?').unwrap_or(target.len());
    let mut head = RequestHead { target: target.to_owned(), path_len, ..RequestHead::default() };
    for name in ["accept", "user-agent", "x-request-id", "x-forwarded-for"] {
        head.headers.push(name.as_bytes(), b"some value");
    }
    let site = Site { port: 80, scheme: Scheme::Http };
    let start = Instant::now();
    for _ in 0..LOOKUPS {
        black_box(table.find(black_box(&head), &site));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(LOOKUPS)
}
