//! `landfall send`: the synthetic source.

mod target;

use std::fs::File;
use std::io;
use std::time::Instant;

use landfall_bench::config::{BlockConfig, SourceConfig};
use landfall_bench::encode::compressed::Compression;
use landfall_bench::form::{Version, VmdescForm, ZeroForm};
use landfall_bench::plan::Plan;
use landfall_bench::send::{ClientTls, End, Progress, SendOptions, Target, ZeroCopyUse, send};
use landfall_bench::{image_bytes, saved};
use landfall_receiver::reader::process_cpu_use;

use crate::cli::{
    ClientTlsArguments, SendArguments, SendCompression, SourceArguments, ZeroPageDetection,
};
use crate::exit::{Exit, Failure};
use crate::live::GIB;
use crate::{standard_error, standard_output, stop};

/// Sends a synthetic guest and says how it ended.
pub(crate) fn run(arguments: &SendArguments, quiet: bool) -> Result<Exit, Failure> {
    if arguments.mapped_ram {
        return save(arguments, quiet);
    }
    let target = target::target(&arguments.uri)?;
    let mut config = shaped(arguments)?;
    target::fit(&mut config, arguments.tls.creds.is_some(), &target)?;
    let plan = Plan::new(config).map_err(Failure::usage)?;
    // As QEMU has it: zero-copy-send is for plain pages on channels.
    let is_plain = plan.config().channels > 0 && plan.config().compression == Compression::None;
    if arguments.zero_copy && !is_plain {
        return Err(Failure::usage("--zero-copy needs channels, and pages without compression"));
    }
    let options = SendOptions {
        tls: tls(&arguments.tls, &target)?,
        bytes_per_second: arguments.pace,
        reply_timeout: arguments.reply_timeout,
        zero_copy: arguments.zero_copy,
        ..SendOptions::default()
    };
    let stopper = options.stop.clone();
    stop::on_signal(move || stopper.stop())?;
    let cpu_before = process_cpu_use();
    let outcome = send(&plan, &target, &options, &Progress::new());
    let cpu_s = process_cpu_use().since(cpu_before).total_ns() as f64 / 1e9;
    // Of nothing sent there is no rate.
    if !quiet && outcome.bytes > 0 {
        let gib = outcome.bytes as f64 / GIB;
        let wall_s = outcome.elapsed.as_secs_f64();
        standard_output::line(format_args!(
            "{gib:.2} GiB sent in {wall_s:.3} s, {:.2} GiB/s; {cpu_s:.3} CPU-s, {:.3} CPU-s/GiB, \
             {:.2} GiB per CPU second",
            gib / wall_s,
            cpu_s / gib,
            gib / cpu_s,
        ))?;
        if arguments.zero_copy {
            standard_output::line(told(&outcome.zero_copy))?;
        }
    }
    match outcome.end {
        End::Completed => Ok(Exit::Ok),
        end => {
            standard_error::line(format_args!("landfall: {end}"));
            Ok(Exit::Failed)
        }
    }
}

/// What came of `--zero-copy`, for people.
fn told(used: &ZeroCopyUse) -> String {
    let ZeroCopyUse { sends, done, copied, given_up } = used;
    let verdict = match given_up {
        0 => String::new(),
        count => format!(": it does not pay here, {count} channels went on without"),
    };
    format!(
        "zero-copy: {sends} sends, {done} confirmed by the kernel, which copied {copied} of them \
         all the same{verdict}"
    )
}

fn tls(arguments: &ClientTlsArguments, target: &Target) -> Result<Option<ClientTls>, Failure> {
    let Some(creds) = &arguments.creds else { return Ok(None) };
    let hostname = match (&arguments.hostname, target) {
        (Some(name), _) => name,
        (None, Target::Tcp { host, .. }) => host,
        (None, _) => return Err(Failure::usage("the URI has no host: give --tls-hostname")),
    };
    ClientTls::load(creds, hostname, arguments.version).map(Some).map_err(Failure::usage)
}

/// Saves a synthetic guest to a mapped-ram file.
fn save(arguments: &SendArguments, quiet: bool) -> Result<Exit, Failure> {
    let mut config = shaped(arguments)?;
    config.return_path = false;
    let plan = Plan::new(config).map_err(Failure::usage)?;
    let (path, offset) = target::file(&arguments.uri)?;
    let failed = |error: io::Error| Failure::host(format!("{}: {error}", path.display()));
    let file = File::create(&path).map_err(failed)?;
    let start = Instant::now();
    let saved = saved::save(&plan, &file, offset).map_err(failed)?;
    if !quiet {
        let bytes = saved.normal * u64::from(plan.config().page_bytes);
        standard_output::line(format_args!(
            "{:.2} GiB saved in {:.3} s: {} pages with data, {} zero, in a file of {:.2} GiB",
            bytes as f64 / GIB,
            start.elapsed().as_secs_f64(),
            saved.normal,
            saved.zero,
            saved.bytes as f64 / GIB,
        ))?;
    }
    Ok(Exit::Ok)
}

/// A guest as the options say.
pub(crate) fn config(ram: u64, channels: u8, source: &SourceArguments) -> SourceConfig {
    let mut config = SourceConfig::new(source.seed, ram, channels);
    config.rounds = source.rounds;
    config.dirty_share = f64::from(source.dirty) / 100.0;
    config.zero_share = f64::from(source.zero) / 100.0;
    config
}

/// The guest, and the wire's shape.
fn shaped(arguments: &SendArguments) -> Result<SourceConfig, Failure> {
    let form = &arguments.form;
    let mut config = config(arguments.ram, arguments.multifd, &arguments.source);
    let machine = form.machine.clone().unwrap_or_else(|| format!("pc-q35-{}", form.speak));
    config.speak_as(form.speak, &machine).map_err(Failure::usage)?;
    config.page_bytes = u32::try_from(form.page_size).unwrap_or(u32::MAX);
    config.target_page_bits = config.page_bytes != 4096;
    config.return_path = !form.no_return_path && !form.background_snapshot;
    config.switchover_ack = form.switchover_ack;
    config.compression = match arguments.compression {
        SendCompression::None => Compression::None,
        SendCompression::Zlib => Compression::Zlib,
        SendCompression::Zstd => Compression::Zstd,
        SendCompression::Qpl => Compression::Qpl,
        SendCompression::Uadk => Compression::Uadk,
        SendCompression::Qatzip => Compression::Qatzip,
    };
    config.level = arguments.level;
    config.compress = arguments.compress;
    if config.compress || config.compression != Compression::None {
        config.compressible_share = f64::from(arguments.compressible) / 100.0;
    }
    config.xbzrle = arguments.xbzrle;
    if config.xbzrle {
        config.patched_share = PATCHED_SHARE;
    }
    config.disk = form.block;
    for (option, is_on) in [("compress", config.compress), ("block", config.disk)] {
        if is_on && form.speak > LAST_WITH_BLOCK_AND_COMPRESS {
            let (limit, found) = (LAST_WITH_BLOCK_AND_COMPRESS, form.speak);
            let text = format!("--{option}: QEMU had it up to {limit}, --speak is {found}");
            return Err(Failure::usage(text));
        }
    }
    config.dirty_bitmaps = form.dirty_bitmaps;
    config.x_ignore_shared = form.x_ignore_shared;
    config.blocks[0].shared = form.x_ignore_shared;
    config.devices.packets = arguments.device_packets;
    config.uuid = form.uuid.unwrap_or_default().into_bytes();
    config.validate_uuid = form.validate_uuid;
    config.background_snapshot = form.background_snapshot;
    config.postcopy_advise = form.postcopy_ram;
    config.early_sections = form.early_sections;
    config.rounds_per_part = form.rounds_per_section;
    config.devices.forged_tails = form.forged_tails;
    if let Some(how) = form.zero_page_detection {
        config.form.zero = match how {
            ZeroPageDetection::Multifd => ZeroForm::InPackets,
            ZeroPageDetection::Legacy => ZeroForm::OnMain,
            ZeroPageDetection::None => ZeroForm::FullPages,
        };
    }
    if form.no_footers {
        config.form.footers = false;
    }
    if form.no_vmdesc {
        config.form.vmdesc = VmdescForm::Absent;
    }
    if let Some(image) = &arguments.image {
        let bytes = image_bytes(image).map_err(Failure::usage)?;
        let page = u64::from(config.page_bytes).max(1);
        config.blocks = vec![BlockConfig::new("pc.ram", bytes.next_multiple_of(page))];
        config.images = vec![image.clone()];
    }
    Ok(config)
}

/// Capabilities that are gone since.
const LAST_WITH_BLOCK_AND_COMPRESS: Version = Version::new(9, 0);
/// Of what share of pages a write changes some places only, where XBZRLE sends what changed.
const PATCHED_SHARE: f64 = 0.75;
