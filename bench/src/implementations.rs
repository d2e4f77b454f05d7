//! Builds the implementations that the benchmark measures: the functions as they are deployed, and
//! the baselines they are compared with.
//!
//! A separate process of the implementation's own build tool (cargo or npm) builds each one, so that
//! no dependency or cargo feature of the benchmark affects the measured programs.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use chat_local::{
    function_binaries::executables,
    template::{EnvValue, Template, workspace_root},
};
use flate2::{Compression, write::DeflateEncoder};

use crate::{Result, environment::Environment};

/// Report name of the Rust baseline without the SDK.
pub const BARE: &str = "bare Rust function";
/// Report name of a function that reads its secret from the environment instead of from Secrets Manager.
pub const SECRET_IN_ENVIRONMENT: &str = "get-totals, secret in the environment";
/// Report name of the Rust baseline with the SDK's default settings.
pub const SDK_DEFAULTS: &str = "get-totals, SDK defaults";

/// An executable implementation of a function.
#[derive(Clone)]
pub struct Implementation {
    /// The name in reports.
    pub name: String,
    /// The function it implements. It decides which events the implementation receives.
    pub function: String,
    program: PathBuf,
    arguments: Vec<PathBuf>,
    /// The file that would be deployed.
    artifact: PathBuf,
    environment: BTreeMap<String, String>,
    /// Whether it reads the secret that signs tokens from Secrets Manager, as a deployed function does.
    fetches_secret: bool,
}

/// Size of a deployed file in bytes.
#[derive(Clone, Copy, Debug)]
pub struct ArtifactSize {
    /// Uncompressed size.
    pub uncompressed: u64,
    /// Size after deflate at the highest level, as in a zip file.
    pub zipped: u64,
}

impl Implementation {
    /// The command that starts a process. The process inherits no environment variables from the
    /// benchmark.
    pub fn command(&self, environment: &Environment) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear();
        command
            .envs(&self.environment)
            .envs(environment.variables());
        if self.fetches_secret {
            command
                .env_remove("JWT_SECRET")
                .envs(environment.secrets_manager_variables());
        }
        if self.name == SDK_DEFAULTS {
            command.env("SSL_CERT_FILE", environment.system_certificates());
        }
        command
    }

    /// Measures the size of the deployed file.
    pub fn size(&self) -> Result<ArtifactSize> {
        let artifact = std::fs::read(&self.artifact)?;
        let mut zip = DeflateEncoder::new(Vec::new(), Compression::best());
        zip.write_all(&artifact)?;
        let length = |bytes: &[u8]| u64::try_from(bytes.len());
        Ok(ArtifactSize {
            uncompressed: length(&artifact)?,
            zipped: length(&zip.finish()?)?,
        })
    }

    /// Prepares a built executable. The benchmark measures a copy of the file: a linker writes the
    /// pages of each file in a different order, and the system then reads some files back in smaller
    /// pieces. This alone makes a start up to 50 % slower.
    fn from_executable(name: &str, function: &str, built: &Path) -> Result<Self> {
        let folder = workspace_root().join("target/bench");
        let file_name = built.file_name().ok_or("the executable has no file name")?;
        let copy = folder.join(file_name);
        std::fs::create_dir_all(&folder)?;
        // Create a new file, because a process may still run the old one.
        let _ = std::fs::remove_file(&copy);
        std::fs::write(&copy, std::fs::read(built)?)?;
        std::fs::set_permissions(&copy, std::fs::metadata(built)?.permissions())?;
        Ok(Self {
            name: name.to_owned(),
            function: function.to_owned(),
            program: copy.clone(),
            arguments: Vec::new(),
            artifact: copy,
            environment: BTreeMap::new(),
            fetches_secret: false,
        })
    }
}

/// Builds these functions and all baselines, with the variant of `get-totals` between them.
pub async fn functions_and_baselines(
    template: &Template,
    names: &[String],
) -> Result<Vec<Implementation>> {
    eprintln!("Building the functions as they are deployed, and the baselines …");
    let mut implementations = functions(template, names).await?;
    implementations.extend(with_secret_in_environment(&implementations));
    implementations.extend(baselines().await?);
    Ok(implementations)
}

/// Builds the release binaries of the functions. They get the environment variables of the template.
pub async fn functions(template: &Template, names: &[String]) -> Result<Vec<Implementation>> {
    let mut arguments = vec!["--release", "--locked", "--package", "chat-functions"];
    arguments.extend(names.iter().flat_map(|name| ["--bin", name]));
    let binaries = executables(&workspace_root(), &arguments).await?;
    let implementations = names.iter().map(|name| {
        let binary = binaries.iter().find(|binary| binary.ends_with(name));
        let binary = binary.ok_or_else(|| format!("cargo built no binary {name}"))?;
        let mut implementation = Implementation::from_executable(name, name, binary)?;
        implementation.fetches_secret = true;
        let functions = template.functions.iter();
        let function = functions.filter(|function| function.binary == *name);
        for (variable, value) in function.flat_map(|function| &function.environment) {
            // `Environment` supplies the table name and the secret.
            if let EnvValue::Literal(value) = value {
                let variable = variable.clone();
                implementation.environment.insert(variable, value.clone());
            }
        }
        Ok(implementation)
    });
    implementations.collect()
}

/// The variant of `get-totals` that shows what reading the secret costs, if `get-totals` is measured.
fn with_secret_in_environment(functions: &[Implementation]) -> Option<Implementation> {
    let original = functions
        .iter()
        .find(|function| function.name == "get-totals")?;
    Some(Implementation {
        name: SECRET_IN_ENVIRONMENT.to_owned(),
        fetches_secret: false,
        ..original.clone()
    })
}

/// Builds the baselines: two Rust functions, and two Node functions if Node is installed.
async fn baselines() -> Result<Vec<Implementation>> {
    let workspace = workspace_root().join("bench/baselines");
    let target = workspace_root().join("target/baselines");
    let target = target.to_string_lossy();
    let mut implementations = Vec::new();
    // Two separate builds: cargo unifies the features of packages that it builds together.
    for (package, name) in [("bare", BARE), ("sdk-defaults", SDK_DEFAULTS)] {
        let arguments = [
            "--release",
            "--locked",
            "--package",
            package,
            "--target-dir",
            &target,
        ];
        let binaries = executables(&workspace, &arguments).await?;
        let binary = binaries.first().ok_or("cargo built no baseline")?;
        implementations.push(Implementation::from_executable(name, "get-totals", binary)?);
    }
    match node_baselines()? {
        Some(baselines) => implementations.extend(baselines),
        None => eprintln!("Skipping the Node baselines: install `node` and `npm` to measure them."),
    }
    Ok(implementations)
}

/// Bundles the Node functions in the target folder. Returns `None` without Node.
fn node_baselines() -> Result<Option<[Implementation; 2]>> {
    let sources = workspace_root().join("bench/node");
    let folder = workspace_root().join("target/node");
    let Some(node) = find_program("node").filter(|_| find_program("npm").is_some()) else {
        return Ok(None);
    };
    std::fs::create_dir_all(&folder)?;
    for file in std::fs::read_dir(sources)? {
        let file = file?;
        if file.file_type()?.is_file() {
            std::fs::copy(file.path(), folder.join(file.file_name()))?;
        }
    }
    for arguments in [&["ci", "--no-audit", "--no-fund"][..], &["run", "build"]] {
        let mut npm = Command::new("npm");
        npm.args(arguments).arg("--silent").current_dir(&folder);
        // Standard output is reserved for the results of the benchmark.
        if !npm.stdout(std::io::stderr()).status()?.success() {
            return Err(format!("npm {} failed", arguments.join(" ")).into());
        }
    }
    Ok(Some(["get-totals", "send-message"].map(|function| {
        let bundle = folder.join(format!("dist/{function}.js"));
        Implementation {
            name: format!("{function}, Node"),
            function: function.to_owned(),
            program: node.clone(),
            arguments: vec![folder.join("bootstrap.cjs"), bundle.clone()],
            artifact: bundle,
            environment: BTreeMap::new(),
            fetches_secret: false,
        }
    })))
}

/// Finds a program in the folders of `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file())
}
