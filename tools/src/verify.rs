//! landfall verify
use crate::{cli::VerifyArguments, exit::{Exit, Failure}};
pub(crate) fn run(_: &VerifyArguments) -> Result<Exit, Failure> { Err(Failure::usage("not yet")) }
