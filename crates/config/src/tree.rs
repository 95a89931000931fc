//! Text to nodes: YAML 1.2 and JSON, several documents in one text, anchors, aliases and merge keys.
//!
//! Every budget is kept here (size, depth, nodes after alias expansion), so that nothing later has to fear a hostile
//! text. Duplicate keys are errors. A syntax error ends its document; reading goes on at the next `---` line, so that
//! one mistake does not hide those of later documents. Knows no fields and no kinds. Read next: `kind/mod.rs`.

use std::collections::HashMap;
use std::rc::Rc;

use meshwright_model::Diagnostic;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use crate::finding::{MAX_FINDINGS_PER_SOURCE, Reporter};
use crate::node::{Entry, Node, Path, Place, Scalar, Span, Value, shorten};
use crate::{MAX_DEPTH, MAX_NODES, MAX_SOURCE_BYTES};

/// Bytes of scalars after aliases are expanded; four times the largest text.
const MAX_EXPANDED_BYTES: usize = 4 * MAX_SOURCE_BYTES;
/// Syntax errors after which a text is given up.
const MAX_SYNTAX_ERRORS: usize = 20;

/// The documents of one text.
pub(crate) struct Documents {
    /// Those that could be read; empty ones are left out.
    pub nodes: Vec<Node>,
    /// Whether every document could be read.
    pub complete: bool,
}

/// Reads a text. Findings go to `reporter`.
pub(crate) fn read(bytes: &[u8], reporter: &mut Reporter<'_>) -> Documents {
    let Some(mut rest) = as_text(bytes, reporter) else {
        return Documents { nodes: Vec::new(), complete: false };
    };
    let mut documents = Documents { nodes: Vec::new(), complete: true };
    let mut reader = Reader { reporter, first_line: 0, started: 1, nodes: 0, bytes: 0, duplicates: 0 };
    for _ in 0..MAX_SYNTAX_ERRORS {
        let Err(stop) = reader.read_all(rest, &mut documents.nodes) else { return documents };
        documents.complete = false;
        let Stop::Document { line } = stop else { return documents };
        let Some((after, lines)) = next_document(rest, line, reader.started) else { return documents };
        rest = after;
        reader.first_line += lines;
        reader.started = 1;
    }
    documents.complete = false;
    documents
}

/// Why reading ended before the end of the text.
enum Stop {
    /// This document cannot be read; the line, counted from 1 in the text given to the parser.
    Document { line: u32 },
    /// The budget is spent.
    Source,
}

/// The text, or a finding that says why it is none.
fn as_text<'t>(bytes: &'t [u8], reporter: &mut Reporter<'_>) -> Option<&'t str> {
    let start = Place { span: Span { line: 1, column: 1, length: 1 }, path: Path::default() };
    if bytes.len() > MAX_SOURCE_BYTES {
        let message = format!("the text has {} bytes", bytes.len());
        let finding = Diagnostic::error("text-too-large", message)
            .with_allowed(format!("at most {MAX_SOURCE_BYTES} bytes (16 MiB)"))
            .with_suggestion("split it into several files");
        reporter.add(&start, finding);
        return None;
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let finding = Diagnostic::error("not-utf8", "the text is UTF-16")
            .with_allowed("UTF-8")
            .with_suggestion("save the file as UTF-8");
        reporter.add(&start, finding);
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let place = place_of_byte(bytes, error.valid_up_to());
            let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
            let finding = Diagnostic::error("not-utf8", format!("the byte 0x{byte:02x} is not valid UTF-8 here"))
                .with_allowed("UTF-8 text")
                .with_suggestion("save the file as UTF-8, or leave it out if it is a binary file");
            reporter.add(&place, finding);
            return None;
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let control = |byte: &u8| (*byte < 0x20 && !b"\t\n\r".contains(byte)) || *byte == 0x7f;
    if let Some(position) = text.as_bytes().iter().position(control) {
        let byte = text.as_bytes()[position];
        let place = place_of_byte(text.as_bytes(), position);
        let finding =
            Diagnostic::error("not-text", format!("the control character 0x{byte:02x} is not allowed in YAML"))
                .with_allowed("printable text, tabs and line ends")
                .with_suggestion("remove it, or leave the file out if it is a binary file");
        reporter.add(&place, finding);
        return None;
    }
    Some(text)
}

/// Line and column of a byte; everything before it is valid UTF-8.
fn place_of_byte(bytes: &[u8], position: usize) -> Place {
    let before = &bytes[..position];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
    Place { span: Span { line: small(line), column: small(column), length: 1 }, path: Path::default() }
}

/// A count that fits because texts are at most 16 MiB long.
fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The text from the first `---` line at or after `line` that is not the one that `started` the broken document, and
/// the number of lines before it.
fn next_document(text: &str, line: u32, started: u32) -> Option<(&str, u32)> {
    let mut start = 0;
    for (number, content) in (1_u32..).zip(text.split_inclusive('\n')) {
        let marker =
            content.strip_prefix("---").is_some_and(|rest| rest.trim_end().is_empty() || rest.starts_with(' '));
        if number >= line && number > started && marker {
            return Some((&text[start..], number - 1));
        }
        start += content.len();
    }
    None
}

/// Reads the events of one text.
struct Reader<'a, 'r> {
    reporter: &'a mut Reporter<'r>,
    /// Lines before the text that the parser was given.
    first_line: u32,
    /// Line of the current document's `---`, counted in the text that the parser was given; never 0.
    started: u32,
    /// Nodes so far, aliases expanded.
    nodes: usize,
    /// Bytes of scalars so far, aliases expanded.
    bytes: usize,
    /// Keys so far that were given twice.
    duplicates: usize,
}

/// What a node costs wherever an alias repeats it.
#[derive(Clone, Copy, Default)]
struct Cost {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

/// A sequence or mapping that is not complete yet.
struct Frame {
    span: Span,
    anchor: usize,
    cost: Cost,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, known: HashMap<Rc<str>, Span>, key: Option<(Rc<str>, Span)>, merged: Vec<Node> },
}

/// A document under construction.
#[derive(Default)]
struct Builder {
    frames: Vec<Frame>,
    anchors: HashMap<usize, (Node, Cost)>,
    root: Option<Node>,
}

impl Reader<'_, '_> {
    fn read_all(&mut self, text: &str, nodes: &mut Vec<Node>) -> Result<(), Stop> {
        let mut parser = Parser::new_from_str(text);
        let mut builder = Builder::default();
        while let Some(event) = parser.next_event() {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => return Err(self.syntax_error(text, &error)),
            };
            let mut place = self.span(&span);
            match event {
                Event::DocumentStart(_) => {
                    self.started = small(span.start.line()).max(1);
                    builder = Builder::default();
                }
                Event::DocumentEnd => {
                    let root = builder.root.take().filter(|node| !matches!(node.value, Value::Null));
                    nodes.extend(root);
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let value = self.scalar(&text, style, tag.as_deref(), place)?;
                    let cost = Cost { nodes: 1, bytes: text.len(), depth: 0 };
                    if text.is_empty() && style == ScalarStyle::Plain {
                        place.length = 1;
                    }
                    self.spend(&cost, place)?;
                    self.finish(&mut builder, Node { span: place, value }, anchor, cost)?;
                }
                Event::Alias(anchor) => {
                    let Some((node, cost)) = builder.anchors.get(&anchor).cloned() else {
                        return Err(self.unusable_alias(place));
                    };
                    self.spend(&cost, place)?;
                    self.check_depth(builder.frames.len() + cost.depth, place)?;
                    self.finish(&mut builder, node, 0, cost)?;
                }
                Event::SequenceStart(anchor, _) => {
                    self.open(&mut builder, place, anchor, Content::Sequence(Vec::new()))?;
                }
                Event::MappingStart(anchor, _) => {
                    let content =
                        Content::Mapping { entries: Vec::new(), known: HashMap::new(), key: None, merged: Vec::new() };
                    self.open(&mut builder, place, anchor, content)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(&mut builder)?,
                Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
            }
        }
        Ok(())
    }

    fn span(&self, span: &saphyr_parser::Span) -> Span {
        let one_line = span.start.line() == span.end.line();
        Span {
            line: small(span.start.line()) + self.first_line,
            column: small(span.start.col() + 1),
            length: if one_line { small(span.len()).max(1) } else { 1 },
        }
    }

    fn add(&mut self, span: Span, finding: Diagnostic) {
        self.reporter.add(&Place { span, path: Path::default() }, finding);
    }

    fn stop_at(&self, span: Span) -> Stop {
        Stop::Document { line: span.line.saturating_sub(self.first_line) }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Result<Value, Stop> {
        let mut quoted = style != ScalarStyle::Plain;
        if let Some(tag) = tag {
            match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
                (true, "str") => quoted = true,
                (true, "int" | "float" | "bool" | "null") => quoted = false,
                _ if tag.handle.is_empty() && tag.suffix == "!" => quoted = true,
                _ => {
                    let finding = Diagnostic::error("yaml-tag", format!("the tag `{tag}` is not known"))
                        .with_allowed("!!str, !!int, !!float, !!bool, !!null")
                        .with_suggestion("remove the tag");
                    self.add(span, finding);
                    return Err(self.stop_at(span));
                }
            }
        }
        let null = !quoted && matches!(text, "" | "~" | "null" | "Null" | "NULL");
        Ok(if null { Value::Null } else { Value::Scalar(Scalar { text: Rc::from(text), quoted }) })
    }

    /// Takes the cost of a node from the budget.
    fn spend(&mut self, cost: &Cost, span: Span) -> Result<(), Stop> {
        self.nodes += cost.nodes;
        self.bytes += cost.bytes;
        if self.nodes <= MAX_NODES && self.bytes <= MAX_EXPANDED_BYTES {
            return Ok(());
        }
        let finding = Diagnostic::error("yaml-too-many-nodes", "the text has too many values, aliases expanded")
            .with_allowed(format!("at most {MAX_NODES} values and {MAX_EXPANDED_BYTES} bytes in one text"))
            .with_effect("reading it would use up the memory of the machine")
            .with_suggestion("write the values out, or split the text into several files");
        self.add(span, finding);
        Err(Stop::Source)
    }

    fn check_depth(&mut self, depth: usize, span: Span) -> Result<(), Stop> {
        if depth <= MAX_DEPTH {
            return Ok(());
        }
        self.add(span, too_deep());
        Err(self.stop_at(span))
    }

    fn open(&mut self, builder: &mut Builder, span: Span, anchor: usize, content: Content) -> Result<(), Stop> {
        let cost = Cost { nodes: 1, bytes: 0, depth: 0 };
        self.spend(&cost, span)?;
        self.check_depth(builder.frames.len() + 1, span)?;
        let in_key =
            matches!(builder.frames.last().map(|frame| &frame.content), Some(Content::Mapping { key: None, .. }));
        if in_key {
            return Err(self.complex_key(span));
        }
        builder.frames.push(Frame { span: Span { length: 1, ..span }, anchor, cost, content });
        Ok(())
    }

    fn close(&mut self, builder: &mut Builder) -> Result<(), Stop> {
        let Some(Frame { span, anchor, cost, content }) = builder.frames.pop() else { return Ok(()) };
        let node = match content {
            Content::Sequence(items) => Node { span, value: Value::Sequence(items.into()) },
            Content::Mapping { mut entries, known, merged, .. } => {
                for mapping in &merged {
                    self.merge(&mut entries, mapping)?;
                }
                drop(known);
                let span = entries.first().map_or(span, |entry| entry.key_span);
                Node { span, value: Value::Mapping(entries.into()) }
            }
        };
        self.finish(builder, node, anchor, cost)
    }

    /// `<<`: keys that the mapping does not have itself; of several mappings the earlier wins.
    fn merge(&mut self, entries: &mut Vec<Entry>, node: &Node) -> Result<(), Stop> {
        match &node.value {
            Value::Mapping(more) => {
                let mut known: std::collections::HashSet<Rc<str>> =
                    entries.iter().map(|entry| Rc::clone(&entry.key)).collect();
                for entry in more.iter() {
                    if known.insert(Rc::clone(&entry.key)) {
                        entries.push(entry.clone());
                    }
                }
                Ok(())
            }
            Value::Sequence(items) if items.iter().all(|item| matches!(item.value, Value::Mapping(_))) => {
                items.iter().try_for_each(|item| self.merge(entries, item))
            }
            _ => {
                let message = format!("a merge key needs a mapping, this is {}", node.describe());
                let finding = Diagnostic::error("yaml-merge", message)
                    .with_allowed("an alias of a mapping, a mapping, or a list of these")
                    .with_suggestion("write `<<: *name` with an anchor `&name` on a mapping");
                self.add(node.span, finding);
                Err(self.stop_at(node.span))
            }
        }
    }

    /// Puts a complete node where it belongs.
    fn finish(&mut self, builder: &mut Builder, node: Node, anchor: usize, cost: Cost) -> Result<(), Stop> {
        if anchor != 0 {
            builder.anchors.insert(anchor, (node.clone(), cost));
        }
        let Some(frame) = builder.frames.last_mut() else {
            builder.root = Some(node);
            return Ok(());
        };
        frame.cost.nodes += cost.nodes;
        frame.cost.bytes += cost.bytes;
        frame.cost.depth = frame.cost.depth.max(cost.depth + 1);
        match &mut frame.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping { entries, known, key, merged } => match key.take() {
                None => match node.value {
                    Value::Scalar(scalar) => *key = Some((scalar.text, node.span)),
                    Value::Null => *key = Some((Rc::from("null"), node.span)),
                    _ => return Err(self.complex_key(node.span)),
                },
                Some((key, _)) if &*key == "<<" => merged.push(node),
                Some((key, key_span)) => match known.get(&key) {
                    Some(first) => {
                        let first = *first;
                        self.duplicate_key(&key, key_span, first, &builder.frames);
                    }
                    None => {
                        known.insert(Rc::clone(&key), key_span);
                        entries.push(Entry { key, key_span, value: node });
                    }
                },
            },
        }
        Ok(())
    }

    fn duplicate_key(&mut self, key: &str, span: Span, first: Span, frames: &[Frame]) {
        let key = shorten(key);
        let message = format!("the key `{key}` is given twice: first at line {}, column {}", first.line, first.column);
        self.duplicates += 1;
        // Findings over the limit are only counted; a hostile text shall not make us spell out a path for each.
        let path = if self.duplicates <= MAX_FINDINGS_PER_SOURCE { innermost_path(frames) } else { Path::default() };
        let finding = Diagnostic::error("duplicate-key", message)
            .with_path(path.to_string())
            .with_value(key)
            .with_allowed("every key once in a mapping")
            .with_effect("one of the two values would be lost without a word")
            .with_suggestion("remove one of them, or join their contents");
        self.add(span, finding);
    }

    fn complex_key(&mut self, span: Span) -> Stop {
        let finding = Diagnostic::error("yaml-key", "a key must be a single text, not a list or mapping")
            .with_allowed("plain or quoted text before the colon")
            .with_suggestion("quote the text before the colon when it contains brackets or braces");
        self.add(span, finding);
        self.stop_at(span)
    }

    fn unusable_alias(&mut self, span: Span) -> Stop {
        let finding = Diagnostic::error("yaml-alias", "this alias names no complete anchor of its document")
            .with_allowed("`*name` after the value that `&name` marks, in the same document")
            .with_suggestion("mark the value with `&name` before it is used; a value cannot contain itself");
        self.add(span, finding);
        self.stop_at(span)
    }

    fn syntax_error(&mut self, text: &str, error: &ScanError) -> Stop {
        let line = small(error.marker().line());
        let span = Span { line: line + self.first_line, column: small(error.marker().col() + 1), length: 1 };
        if error.info().contains("recursion limit") {
            self.add(span, too_deep());
            return Stop::Document { line };
        }
        let written = |number: u32| text.lines().nth((number.max(1) - 1) as usize);
        let tab = [line, line.saturating_sub(1), line + 1].into_iter().find_map(|number| {
            let content = written(number)?;
            let indent = content.len() - content.trim_start_matches([' ', '\t']).len();
            content[..indent].find('\t').map(|column| (number, column))
        });
        if let Some((number, column)) = tab {
            let place = Span { line: number + self.first_line, column: small(column + 1), length: 1 };
            let finding = Diagnostic::error("yaml-tab", "a tab is used for indentation")
                .with_allowed("spaces")
                .with_suggestion("replace the tab by spaces (YAML does not allow tabs for indentation)");
            self.add(place, finding);
            return Stop::Document { line };
        }
        let mut finding = Diagnostic::error("yaml-syntax", format!("this is not valid YAML: {}", error.info()))
            .with_suggestion(advice(error.info()));
        if let Some(content) = written(line) {
            finding = finding.with_value(shorten(content.trim()));
        }
        self.add(span, finding);
        Stop::Document { line }
    }
}

/// The path of the innermost value under construction. A mapping below a merge key has the path of the one it is
/// merged into.
fn innermost_path(frames: &[Frame]) -> Path {
    let mut path = Path::default();
    let around = frames.len().saturating_sub(1);
    for frame in &frames[..around] {
        path = match &frame.content {
            Content::Sequence(items) => path.index(items.len()),
            Content::Mapping { key: Some((key, _)), .. } if &**key != "<<" => path.field(&shorten(key)),
            Content::Mapping { .. } => return path,
        };
    }
    path
}

fn too_deep() -> Diagnostic {
    Diagnostic::error("yaml-too-deep", "lists and mappings are nested too deeply")
        .with_allowed(format!("at most {MAX_DEPTH} levels, aliases expanded"))
        .with_suggestion("no document that is understood here is that deep; check brackets and indentation")
}

/// What to do about a message of the YAML parser.
fn advice(info: &str) -> &'static str {
    const ADVICE: [(&str, &str); 6] = [
        ("mapping values are not allowed", "put quotes around a value that contains `: `, or correct the indentation"),
        ("tab", "replace tabs by spaces"),
        (
            "anchor",
            "mark the value with `&name` before `*name` uses it; put quotes around a value that starts with `*`",
        ),
        ("quoted", "close the quotes that were opened before this place"),
        ("scalar", "put quotes around values that start with a special character"),
        ("flow", "close the bracket or brace that was opened before this place"),
    ];
    let found = ADVICE.iter().find(|(part, _)| info.contains(part));
    found.map_or("check the indentation and the quotes at this place and on the line before", |(_, text)| text)
}
