//! `landfall verify`: compares two RAM images, block by block.

mod compare;
mod difference;
pub(crate) mod fuzzing;
mod image;

use std::path::Path;

use landfall_pagepool::{BlockName, ram_file_name};

use crate::cli::VerifyArguments;
use crate::exit::{Exit, Failure};
use crate::{standard_error, standard_output};

use compare::{Equal, Pair, Source};
use difference::Difference;
use image::{Block, Image};

/// Compares, and prints either how much is equal, unless `quiet`, or the first difference.
pub(crate) fn run(arguments: &VerifyArguments, quiet: bool) -> Result<Exit, Failure> {
    match check(arguments)? {
        Ok(Equal { blocks, bytes }) => {
            if !quiet {
                standard_output::line(format_args!("equal: {blocks} blocks, {bytes} bytes"))?;
            }
            Ok(Exit::Ok)
        }
        Err(difference) => {
            standard_output::line(format_args!("different: {difference}"))?;
            Ok(Exit::Failed)
        }
    }
}

fn check(arguments: &VerifyArguments) -> Result<Result<Equal, Difference>, Failure> {
    let a = Image::open(&arguments.a)?;
    let b = Image::open(&arguments.b)?;
    for (image, path) in [(&a, &arguments.a), (&b, &arguments.b)] {
        if let Some(status) = image.unfinished() {
            // However quiet: "equal" alone would pass for a guest that arrived.
            standard_error::line(format_args!(
                "landfall: warning: {} is of a run that did not complete: its status is {status:?}",
                path.display()
            ));
        }
    }
    let pairs = if arguments.block.is_empty() {
        pairs(&a, &b)?
    } else {
        named_pairs(&a, &b, &arguments.block)?
    };
    let page_bytes = a.page_bytes().or(b.page_bytes()).unwrap_or(PAGE_BYTES_DEFAULT);
    compare::compare(&pairs, page_bytes)
}

/// All blocks of both sides: those of A in its order, then what only B has.
fn pairs(a: &Image, b: &Image) -> Result<Vec<Pair>, Failure> {
    let (blocks_a, blocks_b) = match (a, b) {
        (Image::Directory(a), Image::Directory(b)) => (&a.blocks, &b.blocks),
        (Image::File(file_a), Image::File(file_b)) => {
            let (a, b) = (Some(whole(file_a)), Some(whole(file_b)));
            return Ok(vec![Pair { name: file_a.display().to_string(), a, b }]);
        }
        (Image::Directory(directory), Image::File(file)) => {
            let block = directory.only_block()?;
            let (a, b) = (Some(source(block)), Some(whole(file)));
            return Ok(vec![Pair { name: block.name.clone(), a, b }]);
        }
        (Image::File(file), Image::Directory(directory)) => {
            let block = directory.only_block()?;
            let (a, b) = (Some(whole(file)), Some(source(block)));
            return Ok(vec![Pair { name: block.name.clone(), a, b }]);
        }
    };
    let source_in = |blocks: &[Block], key: &str| -> Option<Source> {
        blocks.iter().find(|block| block.key == key).map(source)
    };
    let mut pairs: Vec<Pair> = blocks_a
        .iter()
        .map(|block| Pair {
            name: block.name.clone(),
            a: Some(source(block)),
            b: source_in(blocks_b, &block.key),
        })
        .collect();
    let only_b = blocks_b.iter().filter(|block| source_in(blocks_a, &block.key).is_none());
    let pair = |block: &Block| Pair { name: block.name.clone(), a: None, b: Some(source(block)) };
    pairs.extend(only_b.map(pair));
    if pairs.is_empty() {
        return Err(Failure::usage("neither directory has any RAM block: nothing to compare"));
    }
    Ok(pairs)
}

/// The blocks that `--block` names, against the files it gives.
fn named_pairs(a: &Image, b: &Image, named: &[String]) -> Result<Vec<Pair>, Failure> {
    let (directory, file_is_b) = match (a, b) {
        (Image::Directory(a), _) => (a, true),
        (Image::File(_), Image::Directory(b)) => (b, false),
        (Image::File(_), Image::File(_)) => {
            return Err(Failure::usage(
                "--block needs a run directory on one side: a raw file is one block without a name",
            ));
        }
    };
    let pair = |text: &String| {
        let (name, file) = text
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--block {text}: is not NAME=FILE")))?;
        let block_name = BlockName::try_from(name)
            .map_err(|error| Failure::usage(format!("--block {text}: {error}")))?;
        let Image::File(file) = Image::open(Path::new(file))? else {
            return Err(Failure::usage(format!("--block {text}: {file} is a directory")));
        };
        let key = ram_file_name(&block_name);
        let ours = directory.blocks.iter().find(|block| block.key == key);
        let (ours, file) = (ours.map(source), Some(whole(&file)));
        let (a, b) = if file_is_b { (ours, file) } else { (file, ours) };
        Ok(Pair { name: name.to_owned(), a, b })
    };
    named.iter().map(pair).collect()
}

fn source(block: &Block) -> Source {
    Source { path: block.path.clone(), bytes: block.bytes }
}

fn whole(file: &Path) -> Source {
    Source { path: file.to_owned(), bytes: None }
}

/// The page size where no `run.json` tells another: only how a difference is
/// told depends on it.
const PAGE_BYTES_DEFAULT: u64 = 4096;

#[cfg(test)]
mod tests;
