//! The pass over the text, before the parser: no recursion, no allocation, linear time.

use async_graphql::Pos;

use super::{Limits, Refusal};

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
const BLOCK_QUOTE: &[u8] = b"\"\"\"";
const ESCAPED_BLOCK_QUOTE: &[u8] = b"\\\"\"\"";
const SPREAD: &[u8] = b"...";

/// Reads the text as the lexical grammar of GraphQL
/// (<https://spec.graphql.org/October2021/#sec-Language.Source-Text>) and compares its size,
/// tokens, directives and bracket depth with the limits.
///
/// # Errors
///
/// The first limit passed, or `Syntax` for text that is no sequence of tokens.
pub fn scan(text: &str, limits: &Limits) -> Result<(), Refusal> {
    count(text, limits).map(|_tokens| ())
}

/// The same; returns the tokens.
pub(super) fn count(text: &str, limits: &Limits) -> Result<usize, Refusal> {
    if text.len() > limits.document_bytes {
        return Err(Refusal::TooLarge);
    }
    let mut scanner = Scanner { text, at: 0, tokens: 0, depth: 0, directives: 0, limits };
    while let Some(byte) = scanner.peek(0) {
        match byte {
            b' ' | b'\t' | b',' | b'\n' | b'\r' => scanner.at += 1,
            b'#' => scanner.skip_comment(),
            _ if scanner.rest().starts_with(BYTE_ORDER_MARK) => {
                scanner.at += BYTE_ORDER_MARK.len();
            }
            _ => scanner.read_token(byte)?,
        }
    }
    Ok(scanner.tokens)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    tokens: usize,
    depth: usize,
    directives: usize,
    limits: &'a Limits,
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn rest(&self) -> &[u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn skip_while(&mut self, is_part: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&is_part) {
            self.at += 1;
        }
    }

    fn skip_comment(&mut self) {
        self.skip_while(|byte| byte != b'\n' && byte != b'\r');
    }

    fn read_token(&mut self, first: u8) -> Result<(), Refusal> {
        self.tokens += 1;
        if self.tokens > self.limits.tokens {
            return Err(Refusal::TooManyTokens { pos: self.pos() });
        }
        match first {
            b'(' | b'[' | b'{' => self.open(),
            b')' | b']' | b'}' => self.close(),
            b'@' => self.read_directive(),
            b'!' | b'$' | b'&' | b':' | b'=' | b'|' => {
                self.at += 1;
                Ok(())
            }
            b'.' => self.read_spread(),
            b'"' if self.rest().starts_with(BLOCK_QUOTE) => self.read_block_string(),
            b'"' => self.read_string(),
            b'-' | b'0'..=b'9' => self.read_number(),
            _ if is_name_start(first) => self.read_name(),
            _ => Err(self.syntax("unexpected character")),
        }
    }

    fn read_name(&mut self) -> Result<(), Refusal> {
        let start = self.at;
        self.skip_while(is_name_part);
        if self.at - start > self.limits.name_bytes {
            self.at = start;
            return Err(Refusal::NameTooLong { pos: self.pos() });
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), Refusal> {
        self.depth += 1;
        if self.depth > self.limits.brackets {
            return Err(Refusal::TooDeep { pos: self.pos() });
        }
        self.at += 1;
        Ok(())
    }

    // Kinds of brackets are left to the parser: it stops at the first closing one that does not
    // match, so it is never deeper than the count here.
    fn close(&mut self) -> Result<(), Refusal> {
        let Some(depth) = self.depth.checked_sub(1) else {
            return Err(self.syntax("unexpected closing bracket"));
        };
        self.depth = depth;
        self.at += 1;
        Ok(())
    }

    fn read_directive(&mut self) -> Result<(), Refusal> {
        self.directives += 1;
        if self.directives > self.limits.directives {
            return Err(Refusal::TooManyDirectives { pos: self.pos() });
        }
        self.at += 1;
        Ok(())
    }

    fn read_spread(&mut self) -> Result<(), Refusal> {
        if !self.rest().starts_with(SPREAD) {
            return Err(self.syntax("unexpected \".\""));
        }
        self.at += SPREAD.len();
        Ok(())
    }

    fn read_block_string(&mut self) -> Result<(), Refusal> {
        let start = self.at;
        self.at += BLOCK_QUOTE.len();
        while self.peek(0).is_some() {
            if self.rest().starts_with(ESCAPED_BLOCK_QUOTE) {
                self.at += ESCAPED_BLOCK_QUOTE.len();
            } else if self.rest().starts_with(BLOCK_QUOTE) {
                self.at += BLOCK_QUOTE.len();
                return Ok(());
            } else {
                self.at += 1;
            }
        }
        self.at = start;
        Err(self.syntax("unterminated block string"))
    }

    fn read_string(&mut self) -> Result<(), Refusal> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek(0) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.read_escape()?,
                Some(b'\n' | b'\r') | None => {
                    self.at = start;
                    return Err(self.syntax("unterminated string"));
                }
                Some(_) => self.at += 1,
            }
        }
    }

    fn read_escape(&mut self) -> Result<(), Refusal> {
        match self.peek(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') if (2..6).all(|ahead| self.is_hexadecimal(ahead)) => {
                self.at += 6;
                Ok(())
            }
            _ => Err(self.syntax("unknown escape in a string")),
        }
    }

    fn is_hexadecimal(&self, ahead: usize) -> bool {
        self.peek(ahead).is_some_and(|byte| byte.is_ascii_hexdigit())
    }

    fn read_number(&mut self) -> Result<(), Refusal> {
        if self.peek(0) == Some(b'-') {
            self.at += 1;
        }
        if self.peek(0) == Some(b'0') {
            self.at += 1;
        } else {
            self.read_digits()?;
        }
        if self.peek(0) == Some(b'.') {
            self.at += 1;
            self.read_digits()?;
        }
        if matches!(self.peek(0), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(0), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.read_digits()?;
        }
        // Without this the parser would read `00` or `1.2.3` as other tokens than counted here.
        let runs_on = self.peek(0).is_some_and(|byte| byte == b'.' || is_name_part(byte));
        if runs_on { Err(self.syntax("malformed number")) } else { Ok(()) }
    }

    fn read_digits(&mut self) -> Result<(), Refusal> {
        let start = self.at;
        self.skip_while(|byte| byte.is_ascii_digit());
        if self.at == start { Err(self.syntax("malformed number")) } else { Ok(()) }
    }

    fn syntax(&self, message: &str) -> Refusal {
        Refusal::Syntax { message: message.to_owned(), pos: self.pos() }
    }

    /// Line and column of the current byte, both from 1. Counted only when refusing, so that the
    /// scan itself keeps no account of lines.
    fn pos(&self) -> Option<Pos> {
        let before = self.text.get(..self.at)?;
        let line_start = before.rfind(['\n', '\r']).map_or(0, |at| at + 1);
        let line_ends = before.matches(['\n', '\r']).count() - before.matches("\r\n").count();
        let column = before.get(line_start..)?.chars().count() + 1;
        Some(Pos { line: line_ends + 1, column })
    }
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn is_name_part(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit()
}
