//! Guest memory as a file: prepared from a seed before a run, compared byte for
//! byte after it.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use fastrand::Rng;

/// The page of every machine here.
pub(crate) const PAGE_BYTES: usize = 4096;

/// Writes a memory file: about half of the pages zero, a few almost zero, the
/// rest random bytes, in runs of 1 to 64 pages of one kind. Pages for which
/// `must_be_zero` holds are zero whatever their run is.
pub(crate) fn prepare(
    path: &Path,
    pages: usize,
    seed: u64,
    must_be_zero: impl Fn(usize) -> bool,
) -> io::Result<()> {
    let mut random = Rng::with_seed(seed);
    let mut file = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
    let mut page = [0; PAGE_BYTES];
    let mut run_left = 0;
    let mut kind = Kind::Zero;
    for index in 0..pages {
        if run_left == 0 {
            run_left = random.usize(1..=64);
            kind = Kind::choose(&mut random);
        }
        run_left -= 1;
        let kind = if must_be_zero(index) { Kind::Zero } else { kind };
        kind.fill(&mut page, &mut random);
        file.write_all(&page)?;
    }
    file.flush()
}

/// Compares two files; `Ok(None)` when they are equal, else what differs.
pub(crate) fn difference(left: &Path, right: &Path) -> io::Result<Option<String>> {
    let (mut a, mut b) = (File::open(left)?, File::open(right)?);
    let (a_bytes, b_bytes) = (a.metadata()?.len(), b.metadata()?.len());
    if a_bytes != b_bytes {
        return Ok(Some(format!("{a_bytes} bytes against {b_bytes}")));
    }
    let mut pages = Differing::default();
    let (mut a_part, mut b_part) = (vec![0; PART_BYTES], vec![0; PART_BYTES]);
    let mut offset = 0;
    while offset < a_bytes {
        let length = PART_BYTES.min((a_bytes - offset) as usize);
        a.read_exact(&mut a_part[..length])?;
        b.read_exact(&mut b_part[..length])?;
        if a_part[..length] != b_part[..length] {
            pages.note(offset, &a_part[..length], &b_part[..length]);
        }
        offset += length as u64;
    }
    Ok(pages.describe())
}

/// Whether a file holds nothing but zeros.
pub(crate) fn is_zero(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut part = vec![0; PART_BYTES];
    loop {
        let length = file.read(&mut part)?;
        if length == 0 {
            return Ok(true);
        }
        if part[..length].iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Zero,
    /// One byte differs from zero, often the first or the last: what a zero
    /// check that looks at a part of the page would miss.
    AlmostZero,
    Random,
}

impl Kind {
    fn choose(random: &mut Rng) -> Self {
        match random.usize(..10) {
            0..=4 => Self::Zero,
            5 => Self::AlmostZero,
            _ => Self::Random,
        }
    }

    fn fill(self, page: &mut [u8; PAGE_BYTES], random: &mut Rng) {
        page.fill(0);
        match self {
            Self::Zero => {}
            Self::AlmostZero => {
                let at = match random.usize(..4) {
                    0 => 0,
                    1 => PAGE_BYTES - 1,
                    _ => random.usize(..PAGE_BYTES),
                };
                page[at] = random.u8(1..=255);
            }
            Self::Random => random.fill(page),
        }
    }
}

/// What differs between two images, for the message.
#[derive(Default)]
struct Differing {
    pages: usize,
    first: Option<String>,
}

impl Differing {
    fn note(&mut self, offset: u64, a: &[u8], b: &[u8]) {
        for (page, (a, b)) in a.chunks(PAGE_BYTES).zip(b.chunks(PAGE_BYTES)).enumerate() {
            let Some(at) = a.iter().zip(b).position(|(a, b)| a != b) else {
                continue;
            };
            self.pages += 1;
            self.first.get_or_insert_with(|| {
                let place = offset + (page * PAGE_BYTES + at) as u64;
                let end = (at + 16).min(a.len());
                format!("first at {place:#x}: {:02x?} against {:02x?}", &a[at..end], &b[at..end])
            });
        }
    }

    fn describe(self) -> Option<String> {
        self.first.map(|first| format!("{} pages differ, {first}", self.pages))
    }
}

/// Read at once: large enough for speed, a multiple of the page.
const PART_BYTES: usize = 256 * PAGE_BYTES;

#[test]
fn a_prepared_file_is_half_zero_and_the_same_for_the_same_seed() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    prepare(&a, 4096, 1, |page| page % 4 == 0).unwrap();
    prepare(&b, 4096, 1, |page| page % 4 == 0).unwrap();
    assert_eq!(difference(&a, &b).unwrap(), None);
    let content = std::fs::read(&a).unwrap();
    let zero = content.chunks(PAGE_BYTES).filter(|page| page.iter().all(|&b| b == 0)).count();
    assert!((4096 / 2..4096 * 3 / 4).contains(&zero), "{zero} zero pages of 4096");
}

#[test]
fn one_flipped_bit_anywhere_and_a_missing_tail_are_differences() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    prepare(&a, 600, 2, |_| false).unwrap();
    let content = std::fs::read(&a).unwrap();
    for at in [0, 4095, 4096, content.len() / 2, content.len() - 1] {
        let mut changed = content.clone();
        changed[at] ^= 0x10;
        std::fs::write(&b, changed).unwrap();
        let found = difference(&a, &b).unwrap().expect("one bit differs");
        assert!(found.starts_with("1 pages differ") && found.contains(&format!("{at:#x}")));
    }
    std::fs::write(&b, &content[..content.len() - PAGE_BYTES]).unwrap();
    assert!(difference(&a, &b).unwrap().is_some());
}
