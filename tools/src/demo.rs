//! landfall demo
use crate::{cli::DemoArguments, exit::{Exit, Failure}};
pub(crate) fn run(_: &DemoArguments, _: bool) -> Result<Exit, Failure> { Err(Failure::usage("not yet")) }
