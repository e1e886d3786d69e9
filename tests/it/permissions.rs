//! What the roles of Terraform's modules allow is what is done in their names, and nothing else. The local ECR, S3 and services ask for
//! no permission: they note what IAM would be asked, and here that is held to the policies as Terraform would apply them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use aws_config::SdkConfig;
use aws_sdk_ecr::{
    Client,
    types::{EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability, Tag},
};
use copy_layers::{Dependencies, Settings};
use ecr_local::{Asked, Fault, Role};
use jiff::Timestamp;
use local_stack::FUNCTIONS;
use serde_json::{Value, json};
use shared::{
    copy::Uploads,
    names::Digest,
    registry::Registries,
    serve::{Deadline, decode},
};

use crate::{
    iam::{self, ACCOUNT, Part, Planned, Policy},
    matrix::hold_section,
    reconcile, report,
    world::{LIFECYCLE_POLICY, REPOSITORY, SOURCE, World, sdk_config, target_input},
};

const DOCUMENT: &str = "docs/permissions.md";

/// An account whose role makes repositories and keeps them in step, and one whose role makes them only.
const SYNCED: &str = "222222222222";
const CREATED: &str = "555555555555";

/// A repository's policy that lets everybody do everything: what stands in the way here is the caller's.
pub(crate) const OPEN: &str = r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"ecr:*"}]}"#;

/// What no local stack shows: Lambda and Step Functions do it in the role's name, and not the function. Each as AWS documents it.
const UNSEEN: [(&str, &str, &[&str]); 4] = [
    (
        "functions",
        "Lambda writes what a function logs, to a group that is there: [AWSLambdaBasicExecutionRole](https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSLambdaBasicExecutionRole.html) without `logs:CreateLogGroup`",
        &["logs:CreateLogStream", "logs:PutLogEvents"],
    ),
    (
        "functions",
        "Lambda sends what it traces: [AWSXRayDaemonWriteAccess](https://docs.aws.amazon.com/lambda/latest/dg/services-xray.html), of which Lambda's own sampling needs two",
        &["xray:PutTelemetryRecords", "xray:PutTraceSegments"],
    ),
    (
        "state machines",
        "Step Functions has its logs delivered: [Logging using CloudWatch Logs](https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html)",
        &[
            "logs:CreateLogDelivery",
            "logs:DeleteLogDelivery",
            "logs:DescribeLogGroups",
            "logs:DescribeResourcePolicies",
            "logs:GetLogDelivery",
            "logs:ListLogDeliveries",
            "logs:PutResourcePolicy",
            "logs:UpdateLogDelivery",
        ],
    ),
    (
        "state machines",
        "Step Functions samples and sends its traces: [IAM policies for X-Ray](https://docs.aws.amazon.com/step-functions/latest/dg/concepts-xray-tracing.html)",
        &["xray:GetSamplingRules", "xray:GetSamplingTargets", "xray:PutTelemetryRecords", "xray:PutTraceSegments"],
    ),
];

fn role(account: &str) -> String {
    format!("arn:aws:iam::{account}:role/ecr-replicator-target")
}

/// A rule with every kind of target that there is.
fn rules() -> Value {
    let other = |region: &str, account: &str, settings: &str| {
        json!({
            "region": region, "registry_id": account, "role_arn": role(account), "external_id": "told", "settings": settings,
        })
    };
    json!({"all": {
        "repositories": {"include": ["prod/*"]},
        "tags": {"include": ["v*"]},
        "untagged": true,
        "targets": [
            {"region": "eu-west-1"},
            {"region": "eu-west-2", "repository_prefix": "mirror/", "settings": "sync"},
            {"region": "eu-west-3", "settings": "none"},
            {"region": "eu-north-1", "kms_key_arn": "arn:aws:kms:eu-north-1:444444444444:key/of-another-account"},
            {"region": "us-west-2", "registry_id": "333333333333", "settings": "none"},
            other("us-east-1", SYNCED, "sync"),
            other("us-east-2", CREATED, "create"),
        ],
    }})
}

/// The deployment, and the modules of the two accounts that have a role for it.
async fn planned() -> [Planned; 3] {
    let deployment = json!({"rules": rules(), "package_dir": "./tests/packages"});
    let target = |region: &str, sync: bool| {
        json!({
            "source_account_id": ACCOUNT, "source_region": SOURCE, "external_id": "told", "repositories": ["prod/*"],
            "regions": [region], "allow_sync": sync,
        })
    };
    let [synced, created] = [target("us-east-1", true), target("us-east-2", false)];
    let module = "terraform/modules/target-account";
    let (deployment, synced, created) = tokio::join!(
        Planned::of("terraform", ACCOUNT, &deployment),
        Planned::of(module, SYNCED, &synced),
        Planned::of(module, CREATED, &created),
    );
    [deployment, synced, created]
}

fn function_policy(planned: &Planned, function: &str) -> Policy {
    planned.policy(&format!("aws_iam_role_policy.function[\"{function}\"]"))
}

/// Holds what was asked to the policy of whoever asked, both ways; what needs each action of each statement.
fn hold(who: &str, policy: &Policy, asked: &BTreeSet<Asked>) -> BTreeMap<Part, BTreeSet<String>> {
    let (mut needed, mut used) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeSet::new());
    for question in asked {
        let Some([action, resource]) = policy.allows(question) else {
            panic!("{who} may not do what it does: {question:?}")
        };
        needed.entry(action.clone()).or_default().insert(question.call.clone());
        used.extend([action, resource]);
    }
    let unused: Vec<Part> = policy.parts().difference(&used).cloned().collect();
    assert_eq!(unused, [], "{who} may do what it does not");
    needed
}

/// Elsewhere the same would be refused: in another region, in another account, and to what no rule names.
fn hold_to_places(who: &str, policy: &Policy, asked: &BTreeSet<Asked>) {
    for question in asked.iter().filter(|question| question.resource.contains(":repository/")) {
        let parts: Vec<&str> = question.resource.splitn(6, ':').collect();
        let [arn, aws, ecr, region, account, repository] = parts[..] else { panic!("{question:?}") };
        let everything = repository == "repository/*";
        for (region, account, repository) in [
            ("sa-east-1", account, repository),
            (region, "999999999999", repository),
            (region, account, "repository/other/app"),
            (region, account, "repository/app"),
        ] {
            // A list is of all repositories, whatever the rules name.
            if everything && repository != "repository/*" {
                continue;
            }
            let resource = [arn, aws, ecr, region, account, repository].join(":");
            // By a list of all, it may ask for the settings of any.
            let listed = question.action == "ecr:DescribeRepositories" && who == "find-differences" && region == SOURCE;
            let elsewhere = Asked { resource, ..question.clone() };
            assert!(
                policy.allows(&elsewhere).is_none() || (listed && account == ACCOUNT),
                "{who} may do {elsewhere:?}"
            );
        }
    }
}

/// What IAM is asked while each function works.
#[derive(Default)]
struct Seen(BTreeMap<String, BTreeSet<Asked>>);

impl Seen {
    /// Has `function` do something, and notes what is asked meanwhile.
    async fn of<T>(&mut self, world: &World, function: &str, work: impl Future<Output = T>) -> T {
        world.ecr.reset_stats();
        let done = work.await;
        self.0.entry(function.to_owned()).or_default().extend(world.ecr.asked());
        done
    }
}

/// A source with every setting that a repository may have, and the two roles.
async fn world() -> (World, SdkConfig) {
    let world = World::start().await;
    for account in [SYNCED, CREATED] {
        world.ecr.add_role(Role::new(&role(account)).unwrap().with_external_id("told"));
    }
    let source = world.client(SOURCE).await;
    source.delete_repository().repository_name(REPOSITORY).send().await.unwrap();
    let encryption = EncryptionConfiguration::builder().encryption_type(EncryptionType::Kms).build().unwrap();
    let create = source.create_repository().repository_name(REPOSITORY).encryption_configuration(encryption);
    create.tags(Tag::builder().key("team").value("a").build().unwrap()).send().await.unwrap();
    set_policies(&source).await;
    let config = sdk_config(&world.ecr.endpoint(), SOURCE).await;
    (world, config)
}

async fn set_policies(source: &Client) {
    let put = source.put_lifecycle_policy().repository_name(REPOSITORY).lifecycle_policy_text(LIFECYCLE_POLICY);
    put.send().await.unwrap();
    source.set_repository_policy().repository_name(REPOSITORY).policy_text(OPEN).send().await.unwrap();
}

fn text<'value>(target: &'value Value, member: &str) -> &'value str {
    target[member].as_str().unwrap()
}

fn account(target: &Value) -> &str {
    target["registryId"].as_str().unwrap_or(ACCOUNT)
}

/// A client of whoever owns a target's registry.
async fn owner(world: &World, target: &Value) -> Client {
    world.client_of(account(target), text(target, "region")).await
}

/// Makes the target's repository anew, and empty.
async fn make(world: &World, target: &Value) {
    let (owner, repository) = (owner(world, target).await, text(target, "repository"));
    // The first time, there is none.
    let _ = owner.delete_repository().repository_name(repository).force(true).send().await;
    owner.create_repository().repository_name(repository).send().await.unwrap();
    owner.set_repository_policy().repository_name(repository).policy_text(OPEN).send().await.unwrap();
}

/// Changes every setting of the target's repository that can be changed.
async fn change_all(world: &World, target: &Value) {
    let (owner, repository) = (owner(world, target).await, text(target, "repository"));
    let put = owner.put_image_tag_mutability().repository_name(repository);
    put.image_tag_mutability(ImageTagMutability::Immutable).send().await.unwrap();
    let scanning = ImageScanningConfiguration::builder().scan_on_push(true).build();
    let scan = owner.put_image_scanning_configuration().repository_name(repository);
    scan.image_scanning_configuration(scanning).send().await.unwrap();
    let arn = format!("arn:aws:ecr:{}:{}:repository/{repository}", text(target, "region"), account(target));
    let tags =
        [("team", "b"), ("other", "c")].map(|(key, value)| Tag::builder().key(key).value(value).build().unwrap());
    owner.tag_resource().resource_arn(arn).set_tags(Some(tags.into())).send().await.unwrap();
}

/// What resolve-image makes of a push that happened a while ago.
async fn resolve(config: &SdkConfig, rules: &Value, digest: &Digest, tag: Option<&str>) -> Value {
    let event = json!({
        "detail-type": "ECR Image Action", "region": SOURCE, "time": Timestamp::now() - Duration::from_mins(2),
        "detail": {
            "action-type": "PUSH", "result": "SUCCESS", "repository-name": REPOSITORY, "image-digest": digest.as_str(),
            "image-tag": tag.unwrap_or_default(),
        },
    });
    let input = json!({"execution": "test", "input": {"event": event, "rule": "all"}, "rules": rules});
    let registries = Registries::new(config.clone()).unwrap();
    serde_json::to_value(resolve_image::handle(&registries, decode(input).unwrap()).await.unwrap()).unwrap()
}

fn input(digest: &Digest, tag: Option<&str>, target: &Value) -> Value {
    let mut input = target_input(digest, tag);
    input["target"] = target.clone();
    input
}

async fn ensure(config: &SdkConfig, target: &Value) -> Result<(), ensure_repo::Error> {
    let mut input = input(&Digest::of(b"any"), None, target);
    input["startedAt"] = json!(Timestamp::now());
    ensure_repo::handle(&Registries::new(config.clone()).unwrap(), decode(input).unwrap()).await.map(drop)
}

/// EnsureRepository on its whole way to a target.
async fn ensure_all(seen: &mut Seen, world: &World, config: &SdkConfig, target: &Value) {
    const FUNCTION: &str = "ensure-repo";
    match target["settings"].as_str() {
        Some("none") => {
            make(world, target).await;
            seen.of(world, FUNCTION, ensure(config, target)).await.unwrap();
        }
        Some("sync") => {
            // Made, brought to what the source has, and to what it does not have.
            seen.of(world, FUNCTION, ensure(config, target)).await.unwrap();
            change_all(world, target).await;
            seen.of(world, FUNCTION, ensure(config, target)).await.unwrap();
            let source = world.client(SOURCE).await;
            source.delete_lifecycle_policy().repository_name(REPOSITORY).send().await.unwrap();
            source.delete_repository_policy().repository_name(REPOSITORY).send().await.unwrap();
            seen.of(world, FUNCTION, ensure(config, target)).await.unwrap();
            set_policies(&source).await;
        }
        _ => {
            // Stopped before the policies, and completed.
            let region = text(target, "region");
            world.ecr.fault(Fault::new("PutLifecyclePolicy", 500, "ServerException").in_region(region).for_ever());
            seen.of(world, FUNCTION, ensure(config, target)).await.unwrap_err();
            world.ecr.clear_faults();
            seen.of(world, FUNCTION, ensure(config, target)).await.unwrap();
        }
    }
}

/// An image, and what refers to it, to a target that has nothing.
async fn copy_and_put(
    seen: &mut Seen,
    world: &World,
    config: &SdkConfig,
    (digest, referrer): (&Digest, &Digest),
    uploads: Uploads,
    target: &Value,
) {
    make(world, target).await;
    let settings = Settings { memory: 512, uploads, max_shards: 4 };
    let dependencies = Dependencies::new(Registries::new(config.clone()).unwrap(), settings).unwrap();
    let mut copied = input(digest, None, target);
    (copied["layers"], copied["cursor"]) = (Value::Null, Value::Null);
    copied["referrers"] = json!([{"digest": referrer}]);
    let mut put = input(digest, Some("v1"), target);
    put["referrers"] = copied["referrers"].clone();
    let deadline = || Deadline::told_by(|| Duration::from_mins(15));
    let copying = copy_layers::handle(&dependencies, decode(copied).unwrap(), deadline());
    assert!(seen.of(world, "copy-layers", copying).await.unwrap().done);
    let registries = Registries::new(config.clone()).unwrap();
    let putting = put_manifest::handle(&registries, decode(put).unwrap(), deadline());
    seen.of(world, "put-manifest", putting).await.unwrap();
}

/// The rules as a state machine has them.
fn rules_of(planned: &Planned, machine: &str, state: &str) -> Value {
    let definition = planned.attribute(&format!("aws_sfn_state_machine.{machine}"), "definition");
    let definition: Value = serde_json::from_str(definition).unwrap();
    definition["States"][state]["Arguments"]["Payload"]["rules"].clone()
}

/// What IAM is asked about each function.
async fn questions(planned: &Planned) -> BTreeMap<String, BTreeSet<Asked>> {
    let (world, config) = world().await;
    let (index, children) = world.push_index(Some("v1")).await;
    let signature = world.refer(&index, "signature", None).await;
    let rules = rules_of(planned, "this", "ResolveImage");
    let mut seen = Seen::default();
    let resolved = seen.of(&world, "resolve-image", resolve(&config, &rules, &index, Some("v1"))).await;
    let child = Digest::of(children[0].to_string().as_bytes());
    for digest in [&signature, &child] {
        seen.of(&world, "resolve-image", resolve(&config, &rules, digest, None)).await;
    }
    let targets = resolved["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 7);
    for target in targets {
        ensure_all(&mut seen, &world, &config, target).await;
        for uploads in [Uploads::Parts, Uploads::Auto] {
            copy_and_put(&mut seen, &world, &config, (&index, &signature), uploads, target).await;
        }
    }
    seen.0.insert("report".to_owned(), report::questions().await);
    let assumable = [SYNCED, CREATED].map(|account| Role::new(&role(account)).unwrap().with_external_id("told"));
    let rules = rules_of(planned, "reconcile", "FindDifferences");
    let [found, told] = reconcile::questions(&rules, targets, &assumable).await;
    seen.0.extend([("find-differences".to_owned(), found), ("report-differences".to_owned(), told)]);
    seen.0
}

/// A document is written by what needs each action.
fn table(needed: &BTreeMap<Part, BTreeSet<String>>) -> String {
    let mut table = String::from("| statement | action | needed by |\n|---|---|---|\n");
    for ((sid, action), calls) in needed {
        let calls: Vec<String> = calls.iter().map(|call| format!("`{}`", call.trim_start_matches("v2:"))).collect();
        writeln!(table, "| {sid} | `{action}` | {} |", calls.join(", ")).unwrap();
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_allows_what_is_called_in_its_name_and_nothing_else() {
    let [deployment, synced, created] = planned().await;
    let seen = questions(&deployment).await;
    let mut document = String::from("\n");
    for function in FUNCTIONS {
        let own = seen[function].iter().filter(|asked| asked.role.is_none()).cloned().collect();
        let policy = function_policy(&deployment, function).without(&["WriteLogs", "Trace"]);
        let needed = hold(function, &policy, &own);
        hold_to_places(function, &policy, &own);
        writeln!(document, "### `{function}`\n\n{}", table(&needed)).unwrap();
    }
    for (planned, account) in [(&synced, SYNCED), (&created, CREATED)] {
        let role = role(account);
        let assumed = seen.values().flatten().filter(|asked| asked.role.as_ref() == Some(&role)).cloned().collect();
        let policy = planned.policy("aws_iam_role_policy.this");
        let needed = hold(&role, &policy, &assumed);
        hold_to_places(&role, &policy, &assumed);
        let sync = if account == SYNCED { "true" } else { "false" };
        writeln!(document, "### The role of a target account, `allow_sync = {sync}`\n\n{}", table(&needed)).unwrap();
    }
    hold_section(DOCUMENT, "functions", &document);
}

/// What AWS documents that a state needs.
fn asked_of_states(planned: &Planned, machine: &str, states: &Value, asked: &mut BTreeSet<Asked>) {
    let arn = |kind: &str, name: &str| format!("arn:aws:states:{SOURCE}:{ACCOUNT}:{kind}:{name}");
    let mut ask = |call: String, actions: &[&str], resource: &str| {
        asked.extend(actions.iter().map(|action| iam::asked(ACCOUNT, &call, action, resource)));
    };
    let mut inner = Vec::new();
    for (name, state) in states.as_object().unwrap() {
        let resource = state["Resource"].as_str().and_then(|arn| arn.strip_prefix("arn:aws:states:::"));
        match (text(state, "Type"), resource) {
            ("Task", Some("lambda:invoke")) => {
                let function = text(&state["Arguments"], "FunctionName");
                ask(format!("{name}: lambda:invoke"), &["lambda:InvokeFunction"], function);
            }
            // https://docs.aws.amazon.com/step-functions/latest/dg/connect-stepfunctions.html
            ("Task", Some("states:startExecution.sync:2")) => {
                let started = text(&state["Arguments"], "StateMachineArn");
                let call = format!("{name}: states:startExecution.sync:2");
                ask(call.clone(), &["states:StartExecution"], started);
                let execution = arn("execution", &format!("{}:any", started.rsplit(':').next().unwrap()));
                ask(call.clone(), &["states:DescribeExecution", "states:StopExecution"], &execution);
                let rule = "rule/StepFunctionsGetEventsForStepFunctionsExecutionRule";
                let rule = format!("arn:aws:events:{SOURCE}:{ACCOUNT}:{rule}");
                ask(call, &["events:DescribeRule", "events:PutRule", "events:PutTargets"], &rule);
            }
            // https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html
            ("Map", None) if state["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED" => {
                let call = format!("{name}: a distributed Map");
                ask(call.clone(), &["states:StartExecution"], &arn("stateMachine", machine));
                // The page names the machine's executions; those of the Map have the label in their ARN, as it says of redriving.
                let child = arn("execution", &format!("{machine}/{}:any", text(state, "Label")));
                for execution in [&arn("execution", &format!("{machine}:any")), &child] {
                    ask(call.clone(), &["states:DescribeExecution", "states:StopExecution"], execution);
                }
                ask(call, &["states:RedriveExecution"], &child);
                let bucket = format!("arn:aws:s3:::{}", planned.attribute("aws_s3_bucket.runs", "bucket"));
                assert_eq!(state["ItemReader"]["Resource"], "arn:aws:states:::s3:listObjectsV2");
                let call = format!("{name}: its ItemReader");
                ask(call.clone(), &["s3:ListBucket"], &bucket);
                ask(call, &["s3:GetObject"], &format!("{bucket}/runs/any"));
                assert_eq!(state["ResultWriter"]["Resource"], "arn:aws:states:::s3:putObject");
                let actions =
                    ["s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"];
                ask(format!("{name}: its ResultWriter"), &actions, &format!("{bucket}/runs/any"));
                inner.push(&state["ItemProcessor"]["States"]);
            }
            ("Map", None) => inner.push(&state["ItemProcessor"]["States"]),
            ("Parallel", None) => inner.extend(state["Branches"].as_array().unwrap().iter().map(|it| &it["States"])),
            ("Choice" | "Fail" | "Pass" | "Succeed" | "Wait", None) => {}
            other => panic!("{name}: nobody has said what {other:?} needs"),
        }
    }
    for states in inner {
        asked_of_states(planned, machine, states, asked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_of_what_starts_the_functions_allow_what_the_definitions_need_and_nothing_else() {
    let variables = json!({"rules": rules(), "package_dir": "./tests/packages"});
    let planned = Planned::of("terraform", ACCOUNT, &variables).await;
    let mut document = String::from("\n");
    for (address, machine) in [("this", "replicate-image"), ("reconcile", "reconcile-registry")] {
        let name = planned.attribute(&format!("aws_sfn_state_machine.{address}"), "name");
        let definition = planned.attribute(&format!("aws_sfn_state_machine.{address}"), "definition");
        let definition: Value = serde_json::from_str(definition).unwrap();
        let mut asked = BTreeSet::new();
        asked_of_states(&planned, name, &definition["States"], &mut asked);
        let role = if address == "this" { "state_machine" } else { "reconcile" };
        let policy = planned.policy(&format!("aws_iam_role_policy.{role}"));
        for (sid, (_, _, actions)) in ["DeliverLogs", "Trace"].into_iter().zip(&UNSEEN[2..]) {
            assert_eq!(
                policy.statement(sid),
                (&actions.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()[..], &["*".to_owned()][..])
            );
        }
        let needed = hold(machine, &policy.without(&["DeliverLogs", "Trace"]), &asked);
        writeln!(document, "### `{machine}`\n\n{}", table(&needed)).unwrap();
    }

    // Whatever starts a state machine.
    let question = |call: &str, action: &str, resource: &str| iam::asked(ACCOUNT, call, action, resource);
    let machine = |name: &str| format!("arn:aws:states:{SOURCE}:{ACCOUNT}:stateMachine:ecr-replicator-{name}");
    let rules: Vec<&str> = planned.all("aws_cloudwatch_event_target").collect();
    assert_eq!(rules, ["aws_cloudwatch_event_target.state_machine[\"all\"]"], "whatever it sends to, its role allows");
    let started = question("a push, by its rule", "states:StartExecution", &machine("replicate-image"));
    let policy = planned.policy("aws_iam_role_policy.event_rule");
    let needed = hold("event rules", &policy, &BTreeSet::from([started]));
    writeln!(document, "### The event rules\n\n{}", table(&needed)).unwrap();
    assert_eq!(planned.all("aws_scheduler_schedule").count(), 1);
    let queue = planned.attribute("aws_sqs_queue.reconcile_dead_letters", "name");
    let queue = format!("arn:aws:sqs:{SOURCE}:{ACCOUNT}:{queue}");
    let asked = BTreeSet::from([
        question("the schedule", "states:StartExecution", &machine("reconcile-registry")),
        question("a run that could not be started", "sqs:SendMessage", &queue),
    ]);
    let needed = hold("schedule", &planned.policy("aws_iam_role_policy.schedule"), &asked);
    writeln!(document, "### The schedule\n\n{}", table(&needed)).unwrap();
    hold_section(DOCUMENT, "services", &document);

    // What nothing here can show is what AWS documents, and no more.
    for function in FUNCTIONS {
        let policy = function_policy(&planned, function);
        for (sid, (_, _, actions)) in ["WriteLogs", "Trace"].into_iter().zip(&UNSEEN[..2]) {
            assert_eq!(policy.statement(sid).0, *actions, "{function}");
        }
        let own = format!("arn:aws:logs:{SOURCE}:{ACCOUNT}:log-group:/aws/lambda/ecr-replicator-{function}:*");
        assert_eq!((policy.statement("WriteLogs").1, policy.statement("Trace").1), (&[own][..], &["*".to_owned()][..]));
    }
    let mut unseen = String::from("| whose | actions | why |\n|---|---|---|\n");
    for (whose, why, actions) in UNSEEN {
        let actions: Vec<String> = actions.iter().map(|action| format!("`{action}`")).collect();
        writeln!(unseen, "| the {whose}' | {} | {why} |", actions.join(", ")).unwrap();
    }
    hold_section(DOCUMENT, "unseen", &unseen);
}
