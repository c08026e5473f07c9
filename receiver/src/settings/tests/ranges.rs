//! Ranges of parameters, from both sides of each limit.

use super::*;

use QemuVersion::{V7_2, V10_0, V11_1};

#[test]
fn every_range_is_refused_just_outside_and_taken_just_inside() {
    // name, smallest, largest, 10.0's words, 11.1's words
    let cases: [(&str, u64, u64, &str, &str); 15] = [
        (
            "multifd-channels",
            1,
            255,
            "Parameter 'multifd_channels' expects a value between 1 and 255",
            "Option multifd-channels expects a value between 1 and 255",
        ),
        (
            "throttle-trigger-threshold",
            1,
            100,
            "Parameter 'throttle_trigger_threshold' expects an integer in the range of 1 to 100",
            "Option throttle-trigger-threshold expects an integer in the range of 1 to 100",
        ),
        (
            "cpu-throttle-initial",
            1,
            99,
            "Parameter 'cpu_throttle_initial' expects an integer in the range of 1 to 99",
            "Option cpu-throttle-initial expects an integer in the range of 1 to 99",
        ),
        (
            "cpu-throttle-increment",
            1,
            99,
            "Parameter 'cpu_throttle_increment' expects an integer in the range of 1 to 99",
            "Option cpu-throttle-increment expects an integer in the range of 1 to 99",
        ),
        (
            "downtime-limit",
            0,
            2_000_000,
            "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms",
            "Option downtime-limit expects an integer in the range of 0 to (2000 * 1000) ms",
        ),
        (
            "multifd-zlib-level",
            0,
            9,
            "Parameter 'multifd_zlib_level' expects a value between 0 and 9",
            "Option multifd-zlib-level expects a value between 0 and 9",
        ),
        (
            "multifd-zstd-level",
            0,
            20,
            "Parameter 'multifd_zstd_level' expects a value between 0 and 20",
            "Option multifd-zstd-level expects a value between 0 and 20",
        ),
        (
            "multifd-qatzip-level",
            1,
            9,
            "Parameter 'multifd_qatzip_level' expects a value between 1 and 9",
            "Option multifd-qatzip-level expects a value between 1 and 9",
        ),
        (
            "max-cpu-throttle",
            20,
            99,
            "Parameter 'max_cpu_throttle' expects an integer in the range of cpu_throttle_initial to 99",
            "Option max-cpu-throttle expects an integer in the range of cpu-throttle-initial to 99",
        ),
        (
            "announce-initial",
            0,
            100_000,
            "Parameter 'announce_initial' expects a value between 0 and 100000",
            "Option announce-initial expects a value between 0 and 100000",
        ),
        (
            "announce-max",
            0,
            100_000,
            "Parameter 'announce_max' expects a value between 0 and 100000",
            "Option announce-max expects a value between 0 and 100000",
        ),
        (
            "announce-rounds",
            0,
            1000,
            "Parameter 'announce_rounds' expects a value between 0 and 1000",
            "Option announce-rounds expects a value between 0 and 1000",
        ),
        (
            "announce-step",
            1,
            10_000,
            "Parameter 'announce_step' expects a value between 0 and 10000",
            "Option announce-step expects a value between 0 and 10000",
        ),
        (
            "x-vcpu-dirty-limit-period",
            1,
            1000,
            "Parameter 'x-vcpu-dirty-limit-period' expects a value between 1 and 1000",
            "Option x-vcpu-dirty-limit-period expects a value between 1 and 1000",
        ),
        (
            "vcpu-dirty-limit",
            1,
            u64::MAX,
            "Parameter 'vcpu_dirty_limit' must be greater than 1 MB/s",
            "Parameter 'vcpu-dirty-limit' must be greater than 1 MB/s",
        ),
    ];
    for (name, least, most, words_10_0, words_11_1) in cases {
        for (version, words) in [(V10_0, words_10_0), (V11_1, words_11_1)] {
            for inside in [least, most] {
                let mut settings = Settings::new(version);
                assert_eq!(set(&mut settings, json!({name: inside})), Ok(()), "{name} {inside}");
                assert_eq!(settings.parameters_json()[name], json!(inside));
            }
            let bytes = [
                least.checked_sub(1),
                most.checked_add(1).filter(|more| most != 255 && *more != 0),
            ];
            for outside in bytes.into_iter().flatten() {
                assert_eq!(refusal(version, json!({name: outside})), words, "{name} {outside}");
            }
        }
    }
}

#[test]
fn sizes_that_are_no_power_of_two_are_refused() {
    for value in [0, 2048, 5000, u64::MAX] {
        let expects = "a power of two no less than the target page size";
        for version in [V7_2, V10_0] {
            let why = refusal(version, json!({"xbzrle-cache-size": value}));
            assert_eq!(why, format!("Parameter 'xbzrle_cache_size' expects {expects}"));
        }
        let why = refusal(V11_1, json!({"xbzrle-cache-size": value}));
        assert_eq!(why, format!("Option xbzrle-cache-size expects {expects}"));
    }
    let why = refusal(V11_1, json!({"x-rdma-chunk-size": 4096}));
    assert_eq!(why, "Option x_rdma_chunk_size expects a power of 2 in the range 1MiB to 1024MiB");
    assert_eq!(set(&mut Settings::new(V11_1), json!({"x-rdma-chunk-size": 1 << 30})), Ok(()));
}
