//! RAM payloads.

use super::*;

fn after_start(blocks: &[(&str, u64)]) -> Source {
    let mut source = Source::new(true);
    source.header().configuration("pc-q35-10.0");
    source.ram_start(1, blocks).eos().footer(1).go_on(2, 1);
    source
}

fn refused(source: &Source) -> StreamError {
    let whole = events(&source.bytes);
    assert_eq!(pieces(&source.bytes, 1), whole);
    whole.end.unwrap_err()
}

#[test]
fn a_page_past_its_block_is_refused_with_block_and_length() {
    for continued in [false, true] {
        let mut source = after_start(&[("pc.ram", 0x4000), ("x", 0x1_0000)]);
        let at = if continued {
            source.page("pc.ram", 0x3000, 1);
            let at = source.bytes.len();
            source.page_continued(0x4000, 1);
            at
        } else {
            let at = source.bytes.len();
            source.page("pc.ram", 0x4000, 1);
            at
        };
        assert_eq!(
            refused(&source).to_string(),
            format!(
                "main stream, byte {at}, ram section 1: page offset 0x4000 is past \
                 used_length 0x4000 of block 'pc.ram'"
            )
        );
    }
}

#[test]
fn a_stale_block_of_the_fast_path_is_never_used() {
    // CONTINUE goes on across sections with the last block, not the first.
    let mut source = after_start(&[("a", 0x4000), ("b", 0x1000)]);
    source.page("a", 0, 1).page_continued(0x1000, 2).page("b", 0, 3).eos().footer(1);
    source.go_on(2, 1).page_continued(0, 4).page_continued(0x1000, 5);
    let error = refused(&source);
    assert!(error.to_string().ends_with("past used_length 0x1000 of block 'b'"), "{error}");
    let log = events(&source.bytes).log;
    let pages: Vec<_> = log.iter().filter(|line| line.starts_with("Page")).collect();
    assert!(pages[3].starts_with("Page 1 0x0 "), "{pages:?}");
}

#[test]
fn next_page_takes_pages_in_a_row_and_leaves_all_else_to_step() {
    let mut source = after_start(&[("a", 0x4000)]);
    let mut stream = MainStream::new(Options::default());
    let mut input = &source.bytes[..];
    while let Step::Event { consumed, .. } = stream.step(input).unwrap() {
        input = &input[consumed..];
        assert_eq!(stream.next_page(input), None);
    }
    source.bytes.clear();
    source.page("a", 0, 1).page_continued(0x1000, 2).zero_continued(0x3000);
    source.zero_continued(0x4000);
    let mut input = &source.bytes[..];
    assert_eq!(stream.next_page(input), None, "names its block");
    let Step::Event { consumed, .. } = stream.step(input).unwrap() else { panic!("a page") };
    input = &input[consumed..];
    for cut in 0..8 + 4096 {
        assert_eq!(stream.next_page(&input[..cut]), None);
        let part = stream.cut_page(&input[..cut]);
        assert_eq!(part.is_some(), cut > 8, "{cut}");
        if let Some(CutPage { block, offset, bytes, consumed }) = part {
            assert_eq!((block, offset, bytes, consumed), (0, 0x1000, &input[8..cut], cut));
        }
    }
    assert_eq!(stream.cut_page(&input[..8 + 4096]), None, "whole");
    let page = stream.next_page(input).unwrap();
    assert_eq!((page.block, page.offset, page.content), (0, 0x1000, PageContent::Full(&[2; 4096])));
    input = &input[page.consumed..];
    assert_eq!(stream.cut_page(&input[..9]), None, "a zero page");
    let zero = stream.next_page(input).unwrap();
    assert_eq!((zero.block, zero.offset, zero.content), (0, 0x3000, PageContent::Zero));
    input = &input[zero.consumed..];
    assert_eq!(stream.next_page(input), None, "past its block");
    assert!(stream.step(input).is_err());
    assert_eq!(stream.zero_items(), 1);
}

#[test]
fn bytes_that_look_like_pages_outside_a_payload_are_no_pages() {
    // A record boundary where the next 8 bytes would be a PAGE|CONTINUE.
    let mut source = after_start(&[("a", 0x10_0000)]);
    source.page("a", 0, 1).eos().footer(1).be64(0x1028).raw(&[0; 4096]);
    assert!(matches!(refused(&source).fault(), StreamFault::Misplaced { .. }));
}

#[test]
fn items_without_a_block_are_refused() {
    let mut source = after_start(&[("mem", 0x4000)]);
    source.zero_continued(0);
    assert_eq!(refused(&source).fault(), &StreamFault::NoPreviousBlock);
    let mut source = after_start(&[("mem", 0x4000)]);
    source.zero("men", 0);
    assert_eq!(refused(&source).fault(), &StreamFault::UnknownBlock { name: "men".into() });
}

#[test]
fn a_zero_page_with_another_fill_is_refused() {
    for continued in [false, true] {
        let mut source = after_start(&[("mem", 0x4000)]);
        source.zero("mem", 0);
        if continued {
            source.be64(0x1022).raw(&[9]);
        } else {
            source.be64(0x1002).cstr("mem").raw(&[9]);
        }
        let error = refused(&source);
        assert!(error.to_string().ends_with("fill byte is 0x9, must be 0x0"), "{error}");
    }
}

#[test]
fn a_list_must_be_complete_unique_and_alone() {
    let base = || {
        let mut source = Source::new(true);
        source.header().configuration("pc").start(1, 1, "ram", 0, 4);
        source
    };
    let mut twice = base();
    twice.blocks(&[("a", 0x1000), ("a", 0x1000)]);
    assert_eq!(refused(&twice).fault(), &StreamFault::BlockTwice { name: "a".into() });

    let mut past = base();
    past.be64(0x2004).cstr("a").be64(0x1000).cstr("b").be64(0x2000);
    assert!(matches!(refused(&past).fault(), StreamFault::BlocksPastTotal { left: 0x1000, .. }));

    let mut empty = base();
    empty.be64(0x04);
    assert_eq!(refused(&empty).fault(), &StreamFault::NoBlocks);

    let mut again = base();
    again.blocks(&[("a", 0x1000)]).blocks(&[("b", 0x1000)]);
    assert_eq!(refused(&again).fault(), &StreamFault::BlocksAgain);

    let mut late = base();
    late.eos();
    assert_eq!(refused(&late).fault(), &StreamFault::BlocksMissing);
}

#[test]
fn more_ram_or_more_blocks_than_allowed_are_refused() {
    let mut source = Source::new(true);
    source.header().ram_start(1, &[("a", 0x3000)]);
    let options = Options { ram_bytes_max: 0x2000, ..Options::default() };
    let error = run(&source.bytes, options, || usize::MAX).0.end.unwrap_err();
    assert!(error.to_string().ends_with("bytes of RAM is 12288, limit 8192"), "{error}");

    let names: Vec<_> = (0..4097).map(|index| format!("block{index}")).collect();
    let blocks: Vec<_> = names.iter().map(|name| (name.as_str(), 0x1000)).collect();
    let list = |blocks: &[(&str, u64)]| {
        let mut source = Source::new(true);
        source.header().ram_start(1, blocks).eos().footer(1);
        source
    };
    assert!(refused(&list(&blocks[..4096])).is_truncated());
    assert!(matches!(refused(&list(&blocks)).fault(), StreamFault::OverLimit { .. }));
}

#[test]
fn page_sizes_of_blocks_come_only_after_advise() {
    let mut source = Source::new(true);
    source.header().configuration("pc").advise(0x20_1000).start(1, 1, "ram", 0, 4);
    source.be64(0x40_3004).cstr("mem").be64(0x20_0000).be64(0x20_0000);
    source.cstr("pc.rom").be64(0x3000).cstr("m2").be64(0x20_0000).be64(0x20_0000);
    source.flush().eos().footer(1);
    assert!(refused(&source).is_truncated());
    let mut stream = MainStream::new(Options::default());
    let mut input = &source.bytes[..];
    while let Step::Event { consumed, .. } = stream.step(input).unwrap() {
        input = &input[consumed..];
    }
    let sizes: Vec<_> = stream.blocks().unwrap().iter().map(|block| block.page_bytes).collect();
    assert_eq!(sizes, [Some(0x20_0000), None, Some(0x20_0000)]);
    assert_eq!(stream.start_has_flush(), Some(true));
}

#[test]
fn guest_addresses_come_with_x_ignore_shared() {
    let mut source = Source::new(true);
    source.header().configuration_with_capability("pc", "x-ignore-shared");
    source.start(1, 1, "ram", 0, 4).be64(0x2004);
    source.cstr("a").be64(0x1000).be64(0).cstr("b").be64(0x1000).be64(0xfffc_0000);
    source.eos().footer(1);
    let outcome = events(&source.bytes);
    assert!(outcome.end.unwrap_err().is_truncated());
    let list = outcome.log.iter().find(|line| line.starts_with("RamBlocks")).unwrap();
    assert!(list.contains(&format!("guest_phys_addr: Some({})", 0xfffc_0000u32)), "{list}");
}

#[test]
fn lengths_of_encoded_pages_are_bounded() {
    let mut source = after_start(&[("mem", 0x4000)]);
    source.be64(0x40).cstr("mem").raw(&[1, 0x10, 0x01]);
    assert!(refused(&source).to_string().ends_with("xbzrle length is 4097, limit 4096"));
    let mut source = after_start(&[("mem", 0x4000)]);
    source.be64(0x100).cstr("mem").be32(0x2000);
    assert!(refused(&source).to_string().contains("compressed length is 8192, limit"));
    let mut source = after_start(&[("mem", 0x4000)]);
    source.be64(0x100).cstr("mem").be32(3).raw(b"abc").eos().footer(1);
    assert!(refused(&source).is_truncated());
}

#[test]
fn rdma_is_refused_by_name() {
    let mut source = after_start(&[("mem", 0x4000)]);
    source.be64(0x80);
    let error = refused(&source);
    assert_eq!(error.family(), Family::Unsupported);
    assert!(error.to_string().contains("rdma"), "{error}");
}
