//! Pure: Rust code as text, indented.

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Code {
    pub(super) text: String,
    depth: usize,
}

impl Code {
    pub(super) fn line(&mut self, line: &str) {
        for _ in 0..self.depth {
            self.text.push_str("    ");
        }
        self.text.push_str(line);
        self.text.push('\n');
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// Opens a block; what opens a list brings its own bracket.
    pub(super) fn open(&mut self, head: &str) {
        if head.ends_with(['[', '(']) {
            self.line(head);
        } else {
            self.line(&format!("{head} {{"));
        }
        self.depth += 1;
    }

    pub(super) fn close(&mut self) {
        self.close_with("}");
    }

    pub(super) fn close_with(&mut self, end: &str) {
        self.depth -= 1;
        self.line(end);
    }

    /// Closes a block and opens the next, as in `} else {`.
    pub(super) fn turn(&mut self, middle: &str) {
        self.close_with(middle);
        self.depth += 1;
    }
}
