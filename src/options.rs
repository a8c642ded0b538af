//! What can be chosen about a compilation. Equal options and equal models give equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ir::{DType, Dim, Symbol};
use ops::onnx::ExpertLayout;
use passes::state::Keep;
use passes::{FpMode, Target};

use crate::error::Error;

/// What can be chosen about a compilation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What is compiled for. By default a CPU, or what a dump states.
    pub target: Option<Target>,
    /// How much to optimise: 0 makes each op its own kernel, 1 to 3 fuse. By default 2, or what a dump states.
    pub level: Option<u8>,
    /// Which rewrites of floating-point arithmetic are allowed. By default `reassoc`, or what a dump states.
    pub fp: Option<FpMode>,
    /// The type in which weights of matrix products are stored that a model has as `f32`: one of 16-bit floats, to which
    /// they are rounded. By default as the model has them, or what a dump states.
    pub weights: Option<DType>,
    /// Rules that must not be applied.
    pub disabled_rules: Vec<String>,
    /// Symbolic sizes that get a value.
    pub dims: Vec<(Symbol, i64)>,
    /// Inputs that get a shape.
    pub input_shapes: Vec<(String, Vec<Dim>)>,
    /// How many tensors inputs of an ONNX model hold that are sequences.
    pub lengths: Vec<(String, usize)>,
    /// Optional inputs of an ONNX model that hold nothing.
    pub absent: Vec<String>,
    /// The numbers of axes of inputs for which an ONNX model states none.
    pub ranks: Vec<(String, usize)>,
    /// Values of inputs that an ONNX model is compiled for; it refuses others when it runs.
    pub values: Vec<(String, Vec<i64>)>,
    /// How the weights of `QMoE` nodes of an ONNX model lie, where it does not say so.
    pub qmoe_layout: Option<ExpertLayout>,
    /// Outputs of an ONNX model have the shapes that are computed, also where it declares others.
    pub computed_shapes: bool,
    /// Outputs of an ONNX model that are maps or texts are told by numbers.
    pub numbers: bool,
    /// Inputs that are outputs of the run before, and stay with the model.
    pub keeps: Vec<Keep>,
    /// For how many rows there is room in states that grow.
    pub capacity: Option<i64>,
    /// What a built-in model is built with: `channels` and `32`, say.
    pub settings: Vec<(String, String)>,
    /// The `.safetensors` file with the weights of a built-in model. By default they are drawn.
    pub params: Option<PathBuf>,
    /// The processor: `portable`, `host`, or a level of x86-64 such as `x86-64-v3`.
    pub mcpu: String,
    /// The architectures of GPUs that artifacts have machine code for, such as `sm_90a`; where there are none, those of
    /// [`ARCHITECTURES`](crate::gpu::ARCHITECTURES).
    pub arch: Vec<String>,
    /// Verify the intermediate form after every pass. A violation is a bug of the compiler.
    pub verify: bool,
    /// Rules besides those that there are: a test plants a wrong one here.
    #[doc(hidden)]
    pub extra_rules: &'static [passes::egraph::rules::Rule],
}

impl Default for Options {
    /// Nothing is chosen; the processor is a common one, and debug builds verify.
    fn default() -> Self {
        Options {
            target: None,
            level: None,
            fp: None,
            weights: None,
            disabled_rules: Vec::new(),
            dims: Vec::new(),
            input_shapes: Vec::new(),
            lengths: Vec::new(),
            absent: Vec::new(),
            ranks: Vec::new(),
            values: Vec::new(),
            qmoe_layout: None,
            computed_shapes: false,
            numbers: false,
            keeps: Vec::new(),
            capacity: None,
            settings: Vec::new(),
            params: None,
            mcpu: "portable".to_owned(),
            arch: Vec::new(),
            verify: cfg!(debug_assertions),
            extra_rules: &[],
        }
    }
}

/// How much is optimised where nobody says.
const DEFAULT_LEVEL: u8 = 2;

/// The levels of x86-64 with the features that each one adds, as the psABI lists them.
const X86_64_LEVELS: [(&str, &[&str]); 4] = [
    ("x86-64", &[]),
    ("x86-64-v2", &["sse3", "ssse3", "sse4.1", "sse4.2", "popcnt"]),
    ("x86-64-v3", &["avx", "avx2", "fma", "bmi1", "bmi2", "lzcnt"]),
    ("x86-64-v4", &["avx512f", "avx512bw", "avx512dq", "avx512vl"]),
];

impl Options {
    /// The processor that code is made for.
    ///
    /// # Errors
    /// [`Error::Mcpu`] for a name that stands for no processor of this architecture.
    pub fn processor(&self) -> Result<cranelift::Target, Error> {
        let portable = cranelift::Target::portable();
        match self.mcpu.as_str() {
            "portable" | "" => return Ok(portable),
            "host" => return Ok(cranelift::Target::host()),
            _ => {}
        }
        let level = X86_64_LEVELS.iter().position(|(name, _)| *name == self.mcpu);
        match level {
            Some(level) if portable.arch == "x86_64" => {
                let features = X86_64_LEVELS[..=level].iter().flat_map(|(_, added)| *added);
                let features = features.map(|feature| (*feature).to_owned()).collect();
                Ok(cranelift::Target { features, chooses: false, ..portable })
            }
            _ => Err(Error::Mcpu { name: self.mcpu.clone(), arch: portable.arch }),
        }
    }

    /// What is recorded of these choices.
    pub fn recorded(&self) -> Recorded {
        self.recorded_over(Recorded {
            target: None,
            level: DEFAULT_LEVEL,
            fp: fp_name(FpMode::default()).to_owned(),
            weights: None,
            disabled_rules: Vec::new(),
            dims: BTreeMap::new(),
            input_shapes: BTreeMap::new(),
            lengths: BTreeMap::new(),
            absent: BTreeSet::new(),
            values: BTreeMap::new(),
            qmoe_layout: None,
            keeps: Vec::new(),
            capacity: None,
        })
    }

    /// The same for a model that was compiled up to some pass with the choices in `earlier`.
    pub fn recorded_over(&self, earlier: Recorded) -> Recorded {
        let mut all = earlier;
        if let Some(target) = self.target {
            all.target = (target == Target::Gpu).then(|| CUDA.to_owned());
        }
        all.level = self.level.unwrap_or(all.level);
        if let Some(fp) = self.fp {
            all.fp = fp_name(fp).to_owned();
        }
        if let Some(weights) = self.weights {
            all.weights = Some(weights.name().to_owned());
        }
        all.disabled_rules.extend(self.disabled_rules.iter().cloned());
        all.disabled_rules.sort();
        all.disabled_rules.dedup();
        all.dims.extend(self.dims.iter().map(|(symbol, value)| (symbol.to_string(), *value)));
        let shapes = self.input_shapes.iter();
        all.input_shapes
            .extend(shapes.map(|(name, shape)| (name.clone(), shape.iter().map(Dim::to_string).collect())));
        all.lengths.extend(self.lengths.iter().cloned());
        all.absent.extend(self.absent.iter().cloned());
        all.values.extend(self.values.iter().cloned());
        if let Some(layout) = self.qmoe_layout {
            all.qmoe_layout = Some(layout.name().to_owned());
        }
        all.keeps.extend(self.keeps.iter().map(Keep::to_string));
        all.capacity = self.capacity.or(all.capacity);
        all
    }

    /// An option that only means something for an ONNX model, if one is given.
    pub(crate) fn of_onnx(&self) -> Option<&'static str> {
        [
            (!self.lengths.is_empty(), "--length"),
            (!self.absent.is_empty(), "--absent"),
            (!self.values.is_empty(), "--value"),
            (self.qmoe_layout.is_some(), "--qmoe-layout"),
        ]
        .into_iter()
        .find_map(|(given, option)| given.then_some(option))
    }
}

/// The choices that results depend on, but for the processor, as text: in artifacts and on top of dumps.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Recorded {
    /// [`Options::target`] by its name, if it is none of the CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// [`Options::level`].
    pub level: u8,
    /// [`Options::fp`] by its name.
    pub fp: String,
    /// [`Options::weights`] by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// [`Options::disabled_rules`].
    pub disabled_rules: Vec<String>,
    /// [`Options::dims`].
    pub dims: BTreeMap<String, i64>,
    /// [`Options::input_shapes`].
    pub input_shapes: BTreeMap<String, Vec<String>>,
    /// [`Options::lengths`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lengths: BTreeMap<String, usize>,
    /// [`Options::absent`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub absent: BTreeSet<String>,
    /// [`Options::values`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Vec<i64>>,
    /// [`Options::qmoe_layout`] by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qmoe_layout: Option<String>,
    /// [`Options::keeps`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keeps: Vec<String>,
    /// [`Options::capacity`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<i64>,
}

impl Recorded {
    /// What passes may know.
    pub fn cx(&self) -> passes::Cx {
        passes::Cx {
            target: self.target(),
            fp: fp_mode(&self.fp).unwrap_or_default(),
            weights: self.weights.as_deref().and_then(weights_type),
            disabled_rules: self.disabled_rules.clone(),
            ..passes::Cx::default()
        }
    }
}

impl Recorded {
    /// What is compiled for.
    pub fn target(&self) -> Target {
        if self.target.as_deref() == Some(CUDA) { Target::Gpu } else { Target::Cpu }
    }
}

/// The name of the GPU target on the command line.
const CUDA: &str = "cuda";

/// The name of a mode on the command line.
pub fn fp_name(fp: FpMode) -> &'static str {
    match fp {
        FpMode::Strict => "strict",
        FpMode::Reassoc => "reassoc",
        FpMode::Fast => "fast",
    }
}

/// The mode of that name.
pub fn fp_mode(name: &str) -> Option<FpMode> {
    [FpMode::Strict, FpMode::Reassoc, FpMode::Fast].into_iter().find(|fp| fp_name(*fp) == name)
}

/// The type of that name in which weights may be stored.
pub fn weights_type(name: &str) -> Option<DType> {
    [DType::BF16, DType::F16].into_iter().find(|dtype| dtype.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(mcpu: &str) -> Result<cranelift::Target, Error> {
        Options { mcpu: mcpu.to_owned(), ..Options::default() }.processor()
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn levels_include_those_below() {
        let mut portable = cranelift::Target::portable();
        let mut v3 = target("x86-64-v3").expect("a level of this architecture");
        portable.features.sort();
        v3.features.sort();
        v3.chooses = true;
        assert_eq!(v3, portable, "the default is x86-64-v3, with more where the processor has it");
        assert!(target("x86-64-v4").expect("a level").has("avx2"));
        assert_eq!(target("x86-64").expect("a level").features, [""; 0]);
    }

    #[test]
    fn other_processors_are_refused() {
        assert_eq!(target("z80").expect_err("no such processor").code(), "egraft::cli::mcpu");
        assert_eq!(target("host").expect("this one").arch, std::env::consts::ARCH);
    }

    #[test]
    fn what_a_dump_states_holds_until_something_else_is_chosen() {
        let first = Options { level: Some(0), dims: vec![("n".into(), 4)], ..Options::default() }.recorded();
        let later = Options { dims: vec![("m".into(), 2)], ..Options::default() };
        let both = later.recorded_over(first.clone());
        assert_eq!((both.level, both.dims.len()), (0, 2));
        assert_eq!(Options { level: Some(3), ..later }.recorded_over(first).level, 3);
        assert_eq!(Options::default().recorded().level, 2);
    }

    #[test]
    fn modes_have_names() {
        for fp in [FpMode::Strict, FpMode::Reassoc, FpMode::Fast] {
            assert_eq!(fp_mode(fp_name(fp)), Some(fp));
        }
        assert_eq!(fp_mode("loose"), None);
    }
}
