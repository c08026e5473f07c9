//! landfall send
use crate::{cli::SendArguments, exit::{Exit, Failure}};
pub(crate) fn run(_: &SendArguments, _: bool) -> Result<Exit, Failure> { Err(Failure::usage("not yet")) }
