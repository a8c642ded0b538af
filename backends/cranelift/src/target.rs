//! The processor that code is made for.
//!
//! Two targets of one description are equal, and so is the code made for them: nothing is asked from the machine
//! except by [`Target::host`], which the caller chooses.

use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};

use crate::error::EmitError;

/// Architectures that this crate knows.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// Features of x86-64-v3, the default: what runtime and kernels may use without asking.
const X86_64_V3: [&str; 11] =
    ["sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "fma", "bmi1", "bmi2", "lzcnt"];

/// Features that the code generator can use beyond these.
const X86_64_MORE: [&str; 5] = ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"];

/// Widths of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Vectors {
    /// Those of the code generator.
    Bits128,
    /// Those of AVX2.
    Bits256,
    /// Those of AVX-512.
    #[default]
    Bits512,
}

/// An architecture with features by name, as artifacts record them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The architecture as Rust calls it: `x86_64`, `aarch64`.
    pub arch: String,
    /// What the processor must have, sorted by generation.
    pub features: Vec<String>,
    /// The widest vectors that may be used, if the features allow them. Results do not depend on it.
    pub vectors: Vectors,
    /// Is code for wider vectors than the features have added, and chosen where the processor has them?
    pub chooses: bool,
}

impl Default for Target {
    fn default() -> Self {
        Target::portable()
    }
}

impl Target {
    /// A common processor of this machine's architecture: x86-64-v3, with wider vectors where it has them, or any
    /// AArch64.
    pub fn portable() -> Target {
        let features: &[&str] = match std::env::consts::ARCH {
            "x86_64" => &X86_64_V3,
            _ => &["neon"],
        };
        Target {
            arch: std::env::consts::ARCH.to_owned(),
            features: features.iter().map(|f| (*f).to_owned()).collect(),
            vectors: Vectors::default(),
            chooses: true,
        }
    }

    /// This machine's processor, with every feature that the code generator can use.
    pub fn host() -> Target {
        #[cfg(target_arch = "x86_64")]
        {
            macro_rules! detected {
                ($($feature:tt)*) => {
                    |name: &&&str| match **name {
                        $($feature => std::arch::is_x86_feature_detected!($feature),)*
                        _ => false,
                    }
                };
            }
            let has = detected!(
                "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "bmi1" "bmi2" "lzcnt"
                "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vnni"
            );
            let features =
                X86_64_V3.iter().chain(&X86_64_MORE).filter(has).map(|f| (*f).to_owned()).collect();
            Target { arch: "x86_64".to_owned(), features, vectors: Vectors::default(), chooses: false }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Target::portable()
    }

    /// Must the processor have this feature?
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|f| f == feature)
    }

    /// The widest vectors that it has and that may be used.
    pub(crate) fn widest(&self) -> Vectors {
        let all = |features: &[&str]| self.arch == "x86_64" && features.iter().all(|f| self.has(f));
        let has = match () {
            () if !all(&["avx2", "fma", "bmi2"]) => Vectors::Bits128,
            () if !all(&["avx512f", "avx512bw", "avx512dq", "avx512vl"]) => Vectors::Bits256,
            () => Vectors::Bits512,
        };
        has.min(self.vectors)
    }

    /// Is there to be code for vectors of 512 bits beside that for 256?
    pub(crate) fn chooses_at_512(&self) -> bool {
        self.chooses && self.vectors == Vectors::Bits512 && self.widest() == Vectors::Bits256
    }

    /// Has it a multiply-add with one rounding?
    pub(crate) fn has_fma(&self) -> bool {
        self.arch != "x86_64" || self.has("fma")
    }

    /// Does it round to integral floats by an instruction?
    pub(crate) fn has_rounding(&self) -> bool {
        self.arch != "x86_64" || self.has("sse4.1")
    }

    /// The code generator for it.
    pub(crate) fn isa(&self) -> Result<OwnedTargetIsa, EmitError> {
        let fail = |why: String| EmitError::Target { arch: self.arch.clone(), why };
        if !ARCHITECTURES.contains(&self.arch.as_str()) {
            return Err(fail(format!("the supported architectures are {}", ARCHITECTURES.join(" and "))));
        }
        let mut flags = settings::builder();
        let verify = if cfg!(debug_assertions) { "true" } else { "false" };
        for (name, value) in [
            // Position independent all the same: every reference is near, thus relative. With the flag, addresses
            // of functions would come from a linker's table.
            ("is_pic", "false"),
            ("opt_level", "speed"),
            ("enable_verifier", verify),
            ("enable_probestack", "false"),
            ("unwind_info", "false"),
        ] {
            flags.set(name, value).expect("a setting of the code generator");
        }
        let mut builder = isa::lookup_by_name(&format!("{}-unknown-linux-gnu", self.arch))
            .map_err(|e| fail(e.to_string()))?;
        if self.arch == "x86_64" {
            for feature in &self.features {
                let flag = format!("has_{}", feature.replace('.', ""));
                // The runtime may ask for features that no instruction selected here needs, such as f16c.
                let _ = builder.enable(&flag);
            }
        }
        builder.finish(settings::Flags::new(flags)).map_err(|e| fail(e.to_string()))
    }
}
