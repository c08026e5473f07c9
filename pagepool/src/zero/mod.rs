//! Is this page zero? One meaning, several kernels, the fastest of them chosen by measurement.
//!
//! Every kernel reads 128 or 256 bytes a step, or-s them together and stops at the first step that
//! is not zero: a page with content is usually known by its first bytes, a zero page has to be read
//! to its end. [`scalar`] is what they all mean.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "SIMD on raw memory: docs/unsafe.md#zero-kernels")]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "SIMD on raw memory: docs/unsafe.md#zero-kernels")]
mod avx512;
#[allow(unsafe_code, reason = "calls kernels on raw memory: docs/unsafe.md#zero-kernels")]
mod kernel;
mod measure;
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code, reason = "SIMD on raw memory: docs/unsafe.md#zero-kernels")]
mod neon;
#[allow(unsafe_code, reason = "reads raw memory: docs/unsafe.md#zero-kernels")]
mod scalar;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "SIMD on raw memory: docs/unsafe.md#zero-kernels")]
mod sse2;

pub use kernel::ZeroKernel;
pub use measure::KernelTiming;
pub(crate) use measure::{Choice, choice};

impl ZeroKernel {
    /// Every kernel that this CPU can run; the scalar one, which is the meaning of all, is first.
    pub fn available() -> Vec<Self> {
        let mut kernels = vec![scalar::kernel()];
        #[cfg(target_arch = "x86_64")]
        kernels.extend([sse2::kernel(), avx2::kernel(), avx512::kernel()].into_iter().flatten());
        #[cfg(target_arch = "aarch64")]
        kernels.extend(neon::kernel());
        kernels
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{ZeroKernel, scalar};
    use landfall_seed::random;

    #[test]
    fn every_kernel_agrees_with_scalar_on_zero_buffers() {
        // Past the capture of test output: the log is to say which kernels ran.
        let _ = writeln!(std::io::stderr(), "zero kernels tested: {:?}", ZeroKernel::available());
        for kernel in ZeroKernel::available() {
            for len in LENGTHS {
                let buffer = vec![0; len + 1];
                for start in [0, 1] {
                    assert!(kernel.is_zero_slice(&buffer[start..start + len]), "{kernel:?} {len}");
                }
            }
        }
    }

    #[test]
    fn every_kernel_sees_one_bit_at_every_byte_of_a_page() {
        for kernel in ZeroKernel::available() {
            let mut buffer = vec![0u8; 4096];
            for at in 0..buffer.len() {
                buffer[at] = 1 << (at % 8);
                assert!(!kernel.is_zero_slice(&buffer), "{kernel:?} missed byte {at}");
                buffer[at] = 0;
            }
            assert!(kernel.is_zero_slice(&buffer));
        }
    }

    #[test]
    fn every_kernel_sees_one_bit_in_larger_pages() {
        for kernel in ZeroKernel::available() {
            for len in LENGTHS {
                let mut buffer = vec![0u8; len];
                let sampled = (0..len).step_by(61).chain([len - 1]);
                for at in sampled {
                    for bit in 0..8 {
                        buffer[at] = 1 << bit;
                        assert!(!kernel.is_zero_slice(&buffer), "{kernel:?} {len} {at} {bit}");
                    }
                    buffer[at] = 0;
                }
            }
        }
    }

    #[test]
    fn no_kernel_looks_outside_its_page() {
        for kernel in ZeroKernel::available() {
            let mut buffer = vec![0xffu8; 3 * 4096];
            for start in [4096, 4096 - 64, 4096 + 1, 4096 + 63] {
                buffer[start..start + 4096].fill(0);
                assert!(kernel.is_zero_slice(&buffer[start..start + 4096]), "{kernel:?}");
                buffer.fill(0xff);
            }
        }
    }

    #[test]
    fn random_sparse_buffers_get_the_same_answer_from_all() {
        let mut random = random();
        for _ in 0..2000 {
            let len = random.choice(LENGTHS).unwrap();
            let mut buffer = vec![0u8; len];
            for _ in 0..random.usize(..3) {
                buffer[random.usize(..len)] = random.u8(..);
            }
            let expected = scalar::kernel().is_zero_slice(&buffer);
            assert_eq!(expected, buffer.iter().all(|byte| *byte == 0));
            for kernel in ZeroKernel::available() {
                assert_eq!(kernel.is_zero_slice(&buffer), expected, "{kernel:?}");
            }
        }
    }

    #[test]
    fn lengths_that_are_no_pages_are_our_bug_and_panic() {
        for kernel in ZeroKernel::available() {
            for len in [0, 1, 4095, 4097] {
                let buffer = vec![0u8; len];
                let asked = std::panic::catch_unwind(|| kernel.is_zero_slice(&buffer));
                assert!(asked.is_err(), "{kernel:?} {len}");
            }
        }
    }

    /// The target page sizes that QEMU has, in bytes.
    const LENGTHS: [usize; 4] = [4096, 8192, 16384, 65536];
}
