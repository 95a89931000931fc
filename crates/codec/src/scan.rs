//! Heads that arrive in pieces: each byte is looked at a bounded number of times, and the verdict is the one that the
//! head would have got in one piece.
//!
//! Knows lines and their limits only. A head is judged when its end has arrived, or when what has arrived cannot
//! become a head any more (a bare LF, a start line that is wrong, a limit passed). Read next: `request`.

use memchr::memchr_iter;

use crate::{HeadError, HeadLimits};

/// How far a head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The end of the head has not arrived.
    Partial,
    /// The head is complete.
    Complete {
        /// Bytes of input that it took, its empty line included.
        consumed: usize,
    },
}

/// What is remembered between two looks at a head that arrives in pieces. The default is the state before its first
/// byte, and the state after each complete head.
#[derive(Clone, Debug, Default)]
pub struct HeadScan {
    /// Bytes searched for line ends.
    searched: usize,
    /// Where the line begins that has not ended yet.
    line_start: usize,
    /// Where the first field line begins.
    section_start: usize,
    /// Lines that have ended, empty ones before the start line not counted.
    lines: usize,
}

/// What to do with the bytes that have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wait,
    Judge,
}

impl HeadScan {
    /// True before the first byte of a head has been seen.
    pub(crate) fn is_fresh(&self) -> bool {
        self.searched == 0
    }

    /// Looks at the bytes that are new. `start` is where the start line begins; `start_line` judges a start line, or
    /// what there is of it.
    pub(crate) fn advance(
        &mut self,
        input: &[u8],
        start: usize,
        limits: &HeadLimits,
        start_line: impl FnOnce(&[u8], bool) -> Result<(), HeadError>,
    ) -> Verdict {
        if self.lines == 0 {
            self.line_start = start;
            self.searched = self.searched.max(start);
        }
        let mut start_line = Some(start_line);
        let from = self.searched.min(input.len());
        for end in memchr_iter(b'\n', &input[from..]).map(|at| from + at) {
            let limit = if self.lines == 0 { limits.request_line } else { limits.field };
            let len = end - self.line_start;
            if len == 0 || input[end - 1] != b'\r' || len - 1 > limit || self.section_is_over(end, limits) {
                return Verdict::Judge;
            }
            if self.lines == 0 {
                if start_line.take().is_some_and(|judge| judge(&input[self.line_start..end - 1], true).is_err()) {
                    return Verdict::Judge;
                }
                self.section_start = end + 1;
            } else if len == 1 || self.lines > limits.fields {
                return Verdict::Judge;
            }
            self.lines += 1;
            self.line_start = end + 1;
        }
        self.searched = input.len();
        self.judge_unfinished(input, limits, start_line)
    }

    fn judge_unfinished(
        &self,
        input: &[u8],
        limits: &HeadLimits,
        start_line: Option<impl FnOnce(&[u8], bool) -> Result<(), HeadError>>,
    ) -> Verdict {
        let line = &input[self.line_start.min(input.len())..];
        let limit = if self.lines == 0 { limits.request_line } else { limits.field };
        let over = line.len() > limit.saturating_add(1)
            || (!input.is_empty() && self.section_is_over(input.len() - 1, limits));
        let wrong = self.lines == 0 && start_line.is_some_and(|judge| !line.is_empty() && judge(line, false).is_err());
        if over || wrong { Verdict::Judge } else { Verdict::Wait }
    }

    /// Whether a byte at this place is beyond what the field section may take.
    fn section_is_over(&self, at: usize, limits: &HeadLimits) -> bool {
        self.lines > 0 && at >= self.section_start.saturating_add(limits.section())
    }
}
