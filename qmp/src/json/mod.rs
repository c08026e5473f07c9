//! JSON as QEMU reads and writes it: an endless stream in, ASCII out.

mod code_point;
mod lexer;
mod stream;
mod tree;
mod writer;

pub(crate) use stream::{MESSAGE_BYTES_MAX, Message, Stream};
pub(crate) use writer::{write, write_string};
