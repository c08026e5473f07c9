//! `block-bitmap-mapping`: the names that nodes and their dirty bitmaps have on the way
//! (`migration/block-dirty-bitmap.c`). Kept and told; nothing here has bitmaps.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::qapi;

/// Reads `[{node-name, alias, bitmaps: [{name, alias[, transform]}]}]`
/// (`qapi/migration.json`, `BitmapMigrationNodeAlias`).
///
/// # Errors
/// QEMU's text: a member missing, unexpected or of another type.
pub(super) fn parse(value: &Value, path: &str) -> Result<Value, String> {
    for (index, node) in qapi::list(value, path)?.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let node = qapi::object(node, &path)?;
        for name in ["node-name", "alias"] {
            qapi::string(qapi::member(node, &path, name)?, &qapi::join(&path, name))?;
        }
        let bitmaps_path = qapi::join(&path, "bitmaps");
        for (index, bitmap) in
            qapi::list(qapi::member(node, &path, "bitmaps")?, &bitmaps_path)?.iter().enumerate()
        {
            let path = format!("{bitmaps_path}[{index}]");
            let bitmap = qapi::object(bitmap, &path)?;
            for name in ["name", "alias"] {
                qapi::string(qapi::member(bitmap, &path, name)?, &qapi::join(&path, name))?;
            }
            if let Some(transform) = bitmap.get("transform") {
                let path = qapi::join(&path, "transform");
                let transform = qapi::object(transform, &path)?;
                if let Some(persistent) = transform.get("persistent") {
                    qapi::boolean(persistent, &qapi::join(&path, "persistent"))?;
                }
                qapi::only(transform, &path, &["persistent"])?;
            }
            qapi::only(bitmap, &path, &["name", "alias", "transform"])?;
        }
        qapi::only(node, &path, &["node-name", "alias", "bitmaps"])?;
    }
    Ok(value.clone())
}

/// Judges the names of what [`parse`] has let through.
///
/// # Errors
/// QEMU's text: an alias that is none, a name too long, a name or an alias used twice.
pub(super) fn check(nodes: &Value) -> Result<(), String> {
    check_nodes(nodes)
        .map_err(|why| format!("Invalid mapping given for block-bitmap-mapping: {why}"))
}

fn check_nodes(nodes: &Value) -> Result<(), String> {
    let (mut names, mut aliases) = (HashSet::new(), HashSet::new());
    for node in objects(nodes) {
        let (name, alias) = (text(node, "node-name"), text(node, "alias"));
        if !qapi::is_identifier(alias) {
            return Err(format!("The node alias '{alias}' is not well-formed"));
        }
        fits("node alias", alias, ALIAS_BYTES_MAX)?;
        fits("node name", name, NODE_NAME_BYTES_MAX)?;
        if !names.insert(name) {
            return Err(format!("The node name '{name}' is mapped twice"));
        }
        if !aliases.insert(alias) {
            return Err(format!("The node alias '{alias}' is used twice"));
        }
        check_bitmaps(node, name, alias)?;
    }
    Ok(())
}

fn check_bitmaps(
    node: &Map<String, Value>,
    node_name: &str,
    node_alias: &str,
) -> Result<(), String> {
    let (mut names, mut aliases) = (HashSet::new(), HashSet::new());
    for bitmap in node.get("bitmaps").into_iter().flat_map(objects) {
        let (name, alias) = (text(bitmap, "name"), text(bitmap, "alias"));
        fits("bitmap alias", alias, ALIAS_BYTES_MAX)?;
        fits("bitmap name", name, BITMAP_NAME_BYTES_MAX)?;
        if !names.insert(name) {
            return Err(format!("The bitmap '{node_name}'/'{name}' is mapped twice"));
        }
        if !aliases.insert(alias) {
            return Err(format!("The bitmap alias '{node_alias}'/'{alias}' is used twice"));
        }
    }
    Ok(())
}

fn objects(list: &Value) -> impl Iterator<Item = &Map<String, Value>> {
    list.as_array().into_iter().flatten().filter_map(Value::as_object)
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn fits(what: &str, text: &str, bytes_max: usize) -> Result<(), String> {
    if text.len() > bytes_max {
        return Err(format!("The {what} '{text}' is longer than {bytes_max} bytes"));
    }
    Ok(())
}

/// An alias has a byte for its length in the stream.
const ALIAS_BYTES_MAX: usize = u8::MAX as usize;
/// `BlockDriverState`, `node_name`, without its last zero.
const NODE_NAME_BYTES_MAX: usize = 31;
/// `BDRV_BITMAP_MAX_NAME_SIZE`.
const BITMAP_NAME_BYTES_MAX: usize = 1023;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_judged_in_the_words_of_a_real_qemu() {
        let node = |name: &str, alias: &str, bitmaps: Value| json!({"node-name": name, "alias": alias, "bitmaps": bitmaps});
        let bitmap = |name: &str, alias: &str| json!({"name": name, "alias": alias});
        let long = |bytes: usize| "n".repeat(bytes);
        for (nodes, why) in [
            (json!([]), None),
            (json!([node(&long(31), &long(255), json!([bitmap(&long(1023), &long(255))]))]), None),
            (json!([node("", "b", json!([bitmap("", "")]))]), None),
            (json!([node(&long(32), "1", json!([]))]), Some("node alias '1' is not well-formed")),
            (
                json!([node(&long(32), "b", json!([bitmap(&long(1024), "y")]))]),
                Some("node name '…' is longer than 31 bytes"),
            ),
            (
                json!([node(&long(32), &long(256), json!([]))]),
                Some("node alias '…' is longer than 255 bytes"),
            ),
            (
                json!([node("a", "b", json!([bitmap(&long(1024), &long(256))]))]),
                Some("bitmap alias '…' is longer than 255 bytes"),
            ),
            (
                json!([node("a", "b", json!([bitmap(&long(1024), "y")]))]),
                Some("bitmap name '…' is longer than 1023 bytes"),
            ),
            (
                json!([node("a", "b", json!([])), node("a", "b", json!([]))]),
                Some("node name 'a' is mapped twice"),
            ),
            (
                json!([node("a", "b", json!([])), node("c", "b", json!([]))]),
                Some("node alias 'b' is used twice"),
            ),
            (
                json!([node("a", "b", json!([bitmap("x", "y"), bitmap("x", "y")]))]),
                Some("bitmap 'a'/'x' is mapped twice"),
            ),
            (
                json!([node("a", "b", json!([bitmap("x", "y"), bitmap("z", "y")]))]),
                Some("bitmap alias 'b'/'y' is used twice"),
            ),
        ] {
            let found = check(&nodes).map_err(|text| {
                let name = text.split('\'').nth(1).unwrap_or_default();
                if name.len() > 30 { text.replace(name, "…") } else { text }
            });
            let expected = why.map_or(Ok(()), |why| {
                Err(format!("Invalid mapping given for block-bitmap-mapping: The {why}"))
            });
            assert_eq!(found, expected, "{nodes}");
        }
    }
}
