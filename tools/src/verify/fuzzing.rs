//! The one file of a run directory that is read again.

use std::collections::HashSet;
use std::path::{Component, Path};

use serde_json::{Value, json};

use super::image::{Listed, unescape};

/// Reads `bytes` as `run.json`.
///
/// It is taken exactly if a plain reading of its rules takes it. Then every block has a file in the
/// folder of RAM and nowhere else, and a name that the block's own file name leads back to; and
/// what was read, written down again, reads the same.
///
/// # Panics
///
/// Where that is not so.
pub fn run_json(bytes: &[u8]) {
    let folder = Path::new("/run/ram");
    let read = Listed::parse(bytes, folder);
    let Ok(report) = serde_json::from_slice::<Value>(bytes) else {
        assert!(read.is_err(), "no JSON was taken");
        return;
    };
    let blocks = report.get("blocks").and_then(Value::as_array);
    assert_eq!(read.is_ok(), blocks.is_none_or(|blocks| makes_sense(blocks)), "{read:?}");
    let Ok(read) = read else { return };
    assert_eq!(read.blocks.as_ref().map(Vec::len), blocks.map(Vec::len));
    let mut again = json!({"pages": {"page-bytes": read.page_bytes}, "status": read.status});
    if let Some(blocks) = &read.blocks {
        let mut list = Vec::new();
        for block in blocks {
            let inside = block.path.strip_prefix(folder).expect("a file in the folder");
            let parts: Vec<Component<'_>> = inside.components().collect();
            assert!(matches!(parts[..], [Component::Normal(_)]), "{}", block.path.display());
            let stem = block.key.strip_suffix(".ram").expect("a file of RAM");
            assert!(block.key.len() <= 255 && !block.key.contains('/'), "{}", block.key);
            let cut = block.key.len() > 230;
            assert!(cut || unescape(stem) == block.name, "{} for {}", block.key, block.name);
            list.push(json!({"name": block.name, "file": inside.to_str(), "bytes": block.bytes}));
        }
        again["blocks"] = list.into();
    }
    assert_eq!(Listed::parse(again.to_string().as_bytes(), folder), Ok(read));
}

/// Reports like those of runs.
pub fn run_json_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"pages": {"page-bytes": 4096}, "blocks": [{"name": "mem", "file": "mem.ram", "bytes": 8192},
            {"name": "/rom@etc/acpi/tables", "file": "%2From%40etc%2Facpi%2Ftables.ram"}]}"#,
        r#"{"pages":{"page-bytes":65536},"blocks":[{"name":"a","file":"..%2F"},{"name":"b","file":"a/.."}]}"#,
        r#"{"blocks": null, "status": "failed"}"#,
        r#"{"blocks": [{"name": "\u0041\u00e4", "file": "\ud83d\ude00"}], "pages": []}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Whether this is a list of blocks with name and file, each name once.
fn makes_sense(blocks: &[Value]) -> bool {
    let text = |block: &Value, key| block.get(key)?.as_str().map(str::to_owned);
    let mut names = HashSet::new();
    blocks.iter().all(|block| {
        let (Some(name), Some(file)) = (text(block, "name"), text(block, "file")) else {
            return false;
        };
        let a_name =
            (1..=255).contains(&name.len()) && name.bytes().all(|b| (32..127).contains(&b));
        let a_file = !["", ".", ".."].contains(&&*file) && !file.contains('/');
        a_name && a_file && names.insert(name)
    })
}
