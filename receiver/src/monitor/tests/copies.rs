//! How often user space copies a page that comes on the main stream.

use std::io::Write;

use super::*;

#[test]
fn a_full_page_on_main_is_copied_once_wherever_reads_cut_it() {
    for piece in [usize::MAX, 65_536, 40_000, 4104, 1448] {
        let rig = Rig::new(MonitorConfig::default());
        let mut client = rig.client();
        client.listen(json!({}));
        let bytes = stream::of_full_pages(PAGES);
        let mut source = client.connect();
        source.set_nodelay(true).unwrap();
        for piece in bytes.chunks(piece.min(bytes.len())) {
            source.write_all(piece).unwrap();
        }
        drop(source);
        rig.wait();
        let run = rig.receiver.current().unwrap();
        assert_eq!(run.ended().unwrap().error, None);
        let mut content = vec![0; PAGES as usize * 4096];
        run.run.ram().expect("it has RAM").iter().next().unwrap().read(0, &mut content);
        assert!(content.into_iter().eq((0..PAGES).flat_map(stream::full_page)), "{piece}");

        let copies = &run.run.main.copies;
        assert_eq!(copies.placed.get(), PAGES * 4096, "{piece}: straight from main's buffer");
        assert_eq!(copies.placed_again.get(), 0, "{piece}: from elsewhere");
        // The first page, which names its block, may be cut before it is known; of all others
        // the item alone is ever moved.
        assert!(copies.moved_max.get() < ITEM + 4096, "{piece}: {copies:?}");
        let first = ITEM + 4095;
        assert!(copies.moved.get() <= first + copies.moves.get() * 8, "{piece}: {copies:?}");
    }
}

const PAGES: u64 = 2000;

/// Bytes before a page, with the name of its block.
const ITEM: u64 = 8 + 4;
