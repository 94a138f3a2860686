//! Segments that follow each other, and bring nothing but data: what a guest with much to send has sent at once. The
//! host's socket takes it in one call.

use std::io::IoSlice;

use crate::token::Token;

/// A run of them, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Run<'a> {
    /// The connection.
    pub(super) token: Option<Token>,
    pub(super) pieces: Vec<IoSlice<'a>>,
    /// Of all pieces.
    pub(super) length: usize,
}

impl<'a> Run<'a> {
    /// How many bytes of this connection's it has.
    pub(super) fn length_of(&self, token: Token) -> usize {
        if self.token == Some(token) { self.length } else { 0 }
    }

    pub(super) fn push(&mut self, token: Token, piece: &'a [u8]) {
        self.token = Some(token);
        self.length += piece.len();
        self.pieces.push(IoSlice::new(piece));
    }
}
