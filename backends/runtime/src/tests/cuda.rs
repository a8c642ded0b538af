//! Kernels for GPUs as bytes, and models of which a container holds them.

use super::container::contents;
use crate::cuda::{Image, Kernel, Launch, decode, encode};
use crate::plan::{KernelSlot, Plan};
use crate::{CodePart, GpuError, Model, PlanError, Size, WeightsPart};

fn kernel(architectures: &[&str]) -> Kernel {
    let image = |arch: &&str| Image { arch: (*arch).to_owned(), bytes: arch.as_bytes().to_vec() };
    let blocks = Size::FloorDiv(Box::new(Size::Symbol(0)), Box::new(256.into()));
    let launch = |function: &str| Launch {
        function: function.to_owned(),
        blocks: blocks.clone(),
        threads: 256,
        shared: 1 << 33,
    };
    Kernel {
        name: "softmax".to_owned(),
        sizes: vec!["n".to_owned()],
        launches: vec![launch("softmax_0"), launch("softmax_1")],
        images: architectures.iter().map(image).collect(),
    }
}

#[test]
fn kernels_are_read_as_they_were_written() {
    let kernels = [kernel(&["sm_80", "compute_80"]), kernel(&[])];
    let bytes = encode(&kernels);
    assert_eq!(decode(&bytes), Ok(kernels.to_vec()));
    for end in 0..bytes.len() {
        assert!(matches!(decode(&bytes[..end]), Err(PlanError::Truncated { .. })), "{end}");
    }
    assert_eq!(decode(&[bytes, vec![0]].concat()), Err(PlanError::Trailing { count: 1 }));
}

#[test]
fn a_gpu_takes_the_code_that_suits_it_best() {
    let common = ["sm_80", "sm_90a", "sm_100a", "compute_80"];
    for (architectures, gpu, best) in [
        (&common[..], (8, 0), Some("sm_80")),
        (&common, (8, 9), Some("sm_80")),
        (&common, (9, 0), Some("sm_90a")),
        (&common, (10, 0), Some("sm_100a")),
        (&common, (10, 3), Some("compute_80")),
        (&common, (12, 0), Some("compute_80")),
        (&common, (7, 5), None),
        (&["sm_80", "sm_86", "sm_89"], (8, 7), Some("sm_86")),
        (&["sm_90", "sm_90a"], (9, 0), Some("sm_90a")),
        (&["sm_100f", "compute_90"], (10, 3), Some("sm_100f")),
        (&["sm_90a", "compute_90a"], (10, 0), None),
        (&["compute_80", "compute_100"], (12, 1), Some("compute_100")),
        (&["gfx942", "sm_"], (9, 0), None),
    ] {
        let kernel = kernel(architectures);
        let found = kernel.image_for(gpu);
        match best {
            Some(best) => assert_eq!(found.map(|image| image.arch.as_str()), Ok(best), "{gpu:?}"),
            None => {
                let named = format!("sm_{}{}", gpu.0, gpu.1);
                assert!(matches!(found, Err(GpuError::NoImage { gpu, .. }) if gpu == named), "{gpu:?}");
            }
        }
    }
}

/// No GPU is looked for before the plan and the kernels fit.
#[test]
fn a_container_has_the_kernels_of_its_plan() {
    let plan = Plan {
        entries: vec![],
        weights: vec![],
        kernels: vec![KernelSlot { name: "softmax".to_owned(), offset: 0 }],
    };
    let load = |kernels: &[Kernel]| {
        let section = encode(kernels);
        let bytes = contents(&plan, CodePart::Gpu(&section), WeightsPart::Embedded(&[])).to_bytes();
        Model::from_container(&bytes, None).map(|_| ()).expect_err("it cannot run here")
    };
    assert_eq!(load(&[]).code(), "egraft::runtime::plan");
    #[cfg(not(feature = "cuda"))]
    {
        let error = load(&[kernel(&["sm_80"])]);
        assert_eq!(error, GpuError::NotBuilt.into());
        assert!(error.help().is_some_and(|help| help.contains("--target cuda")));
    }
}
