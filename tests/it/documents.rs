//! The documents: what the module's say of its inputs and outputs, where links lead, and who runs each command.
//! `UPDATE_DOCS=1` writes what is generated.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use hcl::{Body, Expression, structure::Block};
use resolve_image::Input;
use serde_json::{Value, json};
use shared::serve::decode;

use crate::{matrix::hold_section, operator::blocks, runbook::commands};

const README: &str = include_str!("../../README.md");
const MAKEFILE: &str = include_str!("../../Makefile");

/// What the test of the runbook runs, whatever it is: of other documents, each command has its own line.
const OF_RUNBOOK: [&str; 2] = ["aws ", "QUERY="];

/// Who runs a command that begins so: a test by its name, or a file. What `make test` is made of, CI runs.
const RUN_BY: [(&str, &str); 30] = [
    ("make demo IMAGE=", "it_takes_an_image_that_another_tool_made"),
    ("make demo TARGETS=", "it_takes_an_image_that_another_tool_made"),
    ("make demo KEEP=1", "it_stays_up_when_it_is_told_to_and_says_how_to_use_it"),
    ("make demo RECONCILE=1", "it_finds_and_repairs_what_was_there_before"),
    ("make demo", "it_ends_with_the_image_in_three_regions"),
    ("make help", "every_target_that_a_document_names_is_listed"),
    ("make test", ".ci/run"),
    ("make deny", ".ci/run"),
    ("make package-check", ".ci/run"),
    ("make package", ".ci/run"),
    ("sha256sum --check", "tests/packages/test_packages.py"),
    (
        "cp deploy/terraform.tfvars.example deploy/terraform.tfvars",
        "what_make_deploys_replicates_until_it_is_destroyed",
    ),
    ("make deploy", "what_make_deploys_replicates_until_it_is_destroyed"),
    ("make destroy", "what_make_deploys_replicates_until_it_is_destroyed"),
    ("make picture", "it_writes_the_page_and_says_where"),
    ("make replay-dead-letters", "every_command_of_the_runbook_runs"),
    ("make wait-for-image", "a_pipeline_waits_until_its_push_is_everywhere"),
    ("make reconcile-progress", "a_repair_is_watched_disturbed_and_redriven"),
    ("make reconcile", "a_repair_is_watched_disturbed_and_redriven"),
    ("make bench", "tests/bench"),
    ("terraform init", "every_example_can_be_applied_and_destroyed"),
    ("terraform apply", "every_example_can_be_applied_and_destroyed"),
    ("terraform destroy", "every_example_can_be_applied_and_destroyed"),
    ("aws s3 sync dist ", "packages_in_a_bucket_are_called_if_they_are_those_of_the_checksums"),
    ("aws ecr delete-repository --force", "what_make_deploys_replicates_until_it_is_destroyed"),
    (
        "aws stepfunctions stop-execution",
        "a_deployment_starts_when_its_image_is_everywhere_and_somebody_is_told_of_every_round",
    ),
    ("aws stepfunctions redrive-execution", "every_command_of_the_runbook_runs"),
    ("aws stepfunctions start-execution", "an_execution_by_hand_is_given_what_the_readme_gives_it"),
    ("aws ", "every_command_of_the_runbook_runs"),
    ("QUERY=", "every_command_of_the_runbook_runs"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every document, by its path from the root.
fn documents() -> BTreeMap<String, String> {
    fn collect(directory: &Path, into: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !["target", "dist"].contains(&name) && !name.starts_with('.') {
                collect(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let from_root = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                into.insert(from_root, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut documents = BTreeMap::new();
    collect(&root(), &mut documents);
    assert!(documents.len() > 10 && documents.contains_key("README.md"), "{:?}", documents.keys());
    documents
}

/// The blocks of one kind in a module's file, by their label.
fn read(module: &str, file: &str, kind: &str) -> BTreeMap<String, Block> {
    let content = fs::read_to_string(root().join(module).join(file)).unwrap();
    let body: Body = hcl::parse(&content).unwrap();
    let blocks = body.into_blocks().filter(|block| block.identifier() == kind);
    blocks.map(|block| (block.labels()[0].as_str().to_owned(), block)).collect()
}

fn attribute<'block>(block: &'block Block, name: &str) -> Option<&'block Expression> {
    block.body().attributes().find(|attribute| attribute.key() == name).map(hcl::Attribute::expr)
}

/// In a line, as in a table.
fn text(expression: &Expression) -> String {
    hcl::format::to_string(expression).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn description(block: &Block) -> String {
    let Some(Expression::String(description)) = attribute(block, "description") else {
        panic!("{:?} has no description", block.labels())
    };
    description.replace('|', "\\|").replace('<', "&lt;")
}

/// A type without what it is made of.
fn type_name(expression: &Expression) -> String {
    match expression {
        Expression::FuncCall(call) if call.name.name.as_str() == "object" => "object".to_owned(),
        _ => text(expression),
    }
}

fn inputs(module: &str) -> String {
    let mut rows = [String::new(), String::new()];
    for (name, variable) in read(module, "variables.tf", "variable") {
        let kind = type_name(attribute(&variable, "type").unwrap());
        let default = attribute(&variable, "default").map(text);
        let row = if default.is_none() { &mut rows[0] } else { &mut rows[1] };
        let default = default.map_or_else(|| "(required)".to_owned(), |default| format!("`{default}`"));
        writeln!(row, "| `{name}` | `{kind}` | {default} | {} |", description(&variable)).unwrap();
    }
    format!("| name | type | default | meaning |\n|---|---|---|---|\n{}", rows.concat())
}

#[test]
fn inputs_and_outputs_are_those_of_the_module() {
    for module in ["terraform", "terraform/modules/target-account"] {
        hold_section(&format!("{module}/README.md"), "inputs", &inputs(module));
    }
    let mut outputs = "| name | meaning |\n|---|---|\n".to_owned();
    for (name, output) in read("terraform", "outputs.tf", "output") {
        writeln!(outputs, "| `{name}` | {} |", description(&output)).unwrap();
    }
    hold_section("terraform/README.md", "outputs", &outputs);
}

#[test]
fn the_readme_lists_every_input() {
    let told = README.lines().skip_while(|line| *line != "| Input | Default | |").skip(2);
    let told = told.map_while(|line| line.strip_prefix("| `")).map(|row| {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        (cells[0].to_owned(), cells[1].to_owned())
    });
    let told: BTreeMap<String, String> = told.collect();
    let variables = read("terraform", "variables.tf", "variable");
    assert_eq!(told.keys().collect::<Vec<_>>(), variables.keys().collect::<Vec<_>>());
    for (name, variable) in &variables {
        let default = attribute(variable, "default").map(text).filter(|default| default != "null");
        // Where there is none, a document may say what comes instead.
        assert!(default.as_deref().is_none_or(|it| it.trim_matches('"') == told[name]), "{name}: {default:?}");
    }
}

/// The attributes of an object that are optional: name, type and default, those of objects in it by their path.
fn attributes(prefix: &str, object: &Expression, into: &mut BTreeSet<(String, String, String)>) {
    let Expression::FuncCall(call) = object else { panic!("{object:?} is no object") };
    let [Expression::Object(members)] = &call.args[..] else { panic!("{object:?} has no attributes") };
    for (name, kind) in members {
        let name = format!("{prefix}{name}");
        let Expression::FuncCall(optional) = kind else { panic!("{name} is not optional") };
        assert_eq!(optional.name.name.as_str(), "optional", "{name}");
        if type_name(&optional.args[0]) == "object" {
            attributes(&format!("{name}."), &optional.args[0], into);
        } else {
            let default = optional.args.get(1).map_or_else(|| "null".to_owned(), text);
            into.insert((name, text(&optional.args[0]), default));
        }
    }
}

#[test]
fn the_attributes_of_an_input_are_those_of_its_table() {
    let readme = fs::read_to_string(root().join("terraform/README.md")).unwrap();
    let variables = read("terraform", "variables.tf", "variable");
    let tables: Vec<&str> = readme.split("` has, each with a default:\n\n").collect();
    let named = tables.iter().map(|before| before.rsplit('`').next().unwrap());
    let mut held = 0;
    for (name, table) in named.zip(&tables[1..]) {
        let mut wanted = BTreeSet::new();
        attributes("", attribute(&variables[name], "type").unwrap(), &mut wanted);
        let rows = table.lines().take_while(|line| line.starts_with('|')).skip(2);
        let told = rows.map(|row| {
            let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            (cells[1].to_owned(), cells[2].to_owned(), cells[3].to_owned())
        });
        assert_eq!(told.collect::<BTreeSet<_>>(), wanted, "{name}");
        held += 1;
    }
    assert!(held >= 2, "{held}");
}

/// The anchors of a document's headings, as a forge makes them.
fn anchors(document: &str) -> BTreeSet<String> {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect::<String>()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    let mut links = 0;
    for (name, document) in &documents {
        for link in document.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.contains("://") || link.contains('\n') {
                continue;
            }
            links += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let directory = Path::new(name).parent().unwrap();
            let target = if path.is_empty() { root().join(name) } else { root().join(directory).join(path) };
            assert!(target.exists(), "{name}: {link}");
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                assert!(anchors(&text).contains(anchor), "{name}: {link} is no heading of it");
            }
        }
    }
    assert!(links > 50, "{links}");
}

/// The commands in a document's lines.
fn within_lines(document: &str) -> Vec<String> {
    let fenced: String = document.split("```").step_by(2).collect();
    let codes = fenced.split('`').skip(1).step_by(2).map(|code| code.split_whitespace().collect::<Vec<_>>().join(" "));
    codes.filter(|code| ["aws ", "make ", "sha256sum ", "terraform "].iter().any(|it| code.starts_with(it))).collect()
}

#[test]
fn every_command_is_run_by_somebody() {
    let sources: String = ["tests/it", "tests/local/tests", "picture/tests/it"]
        .iter()
        .flat_map(|directory| fs::read_dir(root().join(directory)).unwrap())
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok())
        .collect();
    let mut unused: BTreeSet<&str> = RUN_BY.iter().map(|(command, _)| *command).collect();
    // What is for those who change the tests, the tests' own documents tell.
    for (name, document) in documents().into_iter().filter(|(name, _)| !name.starts_with("tests/")) {
        let mut all: Vec<String> = blocks(&document, "console").into_iter().flat_map(commands).collect();
        if name == "README.md" {
            all.extend(within_lines(&document));
        }
        for command in all {
            let command = command.replace("make -C ../../.. ", "make ");
            let runs = |(beginning, _): &&(&str, &str)| {
                command.starts_with(beginning) && (!OF_RUNBOOK.contains(beginning) || name == "docs/runbook.md")
            };
            let Some((beginning, by)) = RUN_BY.iter().find(runs) else { panic!("{name}: nobody runs `{command}`") };
            unused.remove(beginning);
            let is_test = !by.contains(['/', '.']);
            assert!(!is_test || sources.contains(&format!("fn {by}")), "there is no test {by}");
            if let Some(arguments) = command.strip_prefix("make ") {
                let (targets, settings): (Vec<&str>, Vec<&str>) =
                    arguments.split([' ', '\\', '\n']).partition(|word| !word.contains('='));
                let target = targets[0];
                assert!(*by != ".ci/run" || made_by("test").contains(target), "`make test` has no {target}");
                assert!(MAKEFILE.contains(&format!("\n{target}: ")), "{name}: there is no `make {target}`");
                for setting in settings {
                    let setting = setting.split('=').next().unwrap();
                    // What the demo reads is handed on in the environment.
                    let is_read = MAKEFILE.contains(&format!("$({setting})")) || target == "demo";
                    assert!(is_read || setting.contains('\''), "{name}: `{command}`: nothing reads {setting}");
                }
            }
        }
    }
    assert_eq!(unused, BTreeSet::new(), "no document has these commands");
}

/// A target, and what is made before it.
fn made_by(target: &str) -> BTreeSet<&str> {
    let line = MAKEFILE.lines().find_map(|line| line.strip_prefix(target)?.strip_prefix(": "));
    let before = line.unwrap_or_default().split(" ## ").next().unwrap().split_whitespace();
    before.flat_map(made_by).chain([target]).collect()
}

#[test]
fn every_target_that_a_document_names_is_listed() {
    let help = Command::new("make").arg("help").current_dir(root()).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let listed: BTreeSet<&str> = help.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let named = RUN_BY.iter().filter_map(|(command, _)| command.strip_prefix("make ")?.split(' ').next());
    let named: BTreeSet<&str> = named.filter(|target| *target != "help").collect();
    assert_eq!(named.difference(&listed).collect::<Vec<_>>(), [] as [&&str; 0], "{help}");
}

#[test]
fn an_execution_by_hand_is_given_what_the_readme_gives_it() {
    let commands: Vec<String> = blocks(README, "console").into_iter().flat_map(commands).collect();
    let inputs = commands.iter().filter_map(|command| command.split("--input '").nth(1)?.split('\'').next());
    let inputs: Vec<&str> = inputs.collect();
    assert!(!inputs.is_empty());
    for input in inputs {
        let input: Value = serde_json::from_str(input).unwrap();
        let input = json!({"execution": "by-hand", "input": input, "rules": {}});
        assert!(decode::<Input>(input.clone()).is_ok(), "{input}");
    }
}
