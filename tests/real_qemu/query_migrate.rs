//! The shape of a completed `query-migrate` answer: members, their order, and
//! the sums between them.

use serde_json::Value;

/// Checks an answer with status `completed`.
pub(crate) fn check(answer: &Value) -> Result<(), String> {
    check_all(answer).map_err(|error| format!("{error} in {answer}"))
}

fn check_all(answer: &Value) -> Result<(), String> {
    members(answer, &["status", "total-time", "ram"])?;
    let ram = &answer["ram"];
    members(
        ram,
        &[
            "total",
            "pages-per-second",
            "page-size",
            "remaining",
            "mbps",
            "transferred",
            "duplicate",
            "normal-bytes",
            "normal",
        ],
    )?;
    if answer["status"] != "completed" {
        return Err("the status is not `completed`".to_owned());
    }
    let total_time = number(answer, "total-time")?;
    let (normal, duplicate) = (number(ram, "normal")?, number(ram, "duplicate")?);
    let transferred = number(ram, "transferred")?;
    let expected = [
        ("page-size", 4096),
        ("remaining", 0),
        ("normal-bytes", normal * 4096),
        ("transferred", normal * 4096),
        ("pages-per-second", (normal + duplicate) * 1000 / total_time.max(1)),
    ];
    for (name, wanted) in expected {
        let found = number(ram, name)?;
        if found != wanted {
            return Err(format!("{name} is {found}, the other members make {wanted}"));
        }
    }
    if total_time == 0 {
        return Err("total-time is 0".to_owned());
    }
    let mbps = ram["mbps"].as_f64().ok_or("mbps is no number")?;
    let wanted = transferred as f64 * 8.0 / total_time as f64 / 1000.0;
    if (mbps - wanted).abs() > wanted * 1e-9 {
        return Err(format!("mbps is {mbps}, the other members make {wanted}"));
    }
    Ok(())
}

fn members(object: &Value, wanted: &[&str]) -> Result<(), String> {
    let found: Vec<&str> =
        object.as_object().ok_or("an object is missing")?.keys().map(String::as_str).collect();
    if found == wanted { Ok(()) } else { Err(format!("members {found:?}, not {wanted:?}")) }
}

fn number(object: &Value, name: &str) -> Result<u64, String> {
    object[name].as_u64().ok_or_else(|| format!("{name} is no whole number"))
}

#[cfg(test)]
fn sample() -> Value {
    serde_json::from_str(
        r#"{"status": "completed", "total-time": 94,
            "ram": {"total": 554508288, "pages-per-second": 1440234, "page-size": 4096,
                    "remaining": 0, "mbps": 97.955404255319152, "transferred": 1150976,
                    "duplicate": 135101, "normal-bytes": 1150976, "normal": 281}}"#,
    )
    .unwrap()
}

#[test]
fn the_sample_of_the_proposal_has_the_shape() {
    check(&sample()).unwrap();
}

#[test]
fn a_wrong_sum_an_added_and_a_moved_member_are_found() {
    let mut wrong = sample();
    wrong["ram"]["normal"] = 282.into();
    assert!(check(&wrong).is_err());
    let mut more = sample();
    more["ram"]["dirty-sync-count"] = 0.into();
    assert!(check(&more).is_err());
    let mut moved = sample();
    let total = moved["ram"].as_object_mut().unwrap().shift_remove("total").unwrap();
    moved["ram"]["total"] = total;
    assert!(check(&moved).is_err());
}
