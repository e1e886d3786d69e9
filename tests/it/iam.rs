//! The part of IAM that the module's policies use, and what IAM is asked about calls.

use std::collections::{BTreeMap, BTreeSet};

use axum::{Router, http::HeaderMap, routing::any};
use ecr_local::Asked;
use local_stack::Call;
use serde_json::{Value, json};
use wildmatch::WildMatchPattern;

use crate::world::SOURCE;

pub(crate) const ACCOUNT: &str = "123456789012";

/// A policy that allows: a list of statements.
#[derive(Debug, Clone)]
pub(crate) struct Policy(Vec<Statement>);

#[derive(Debug, Clone)]
struct Statement {
    sid: String,
    actions: Vec<String>,
    resources: Vec<String>,
    /// What is compared, how, and with what.
    conditions: Vec<(String, String, BTreeSet<String>)>,
}

/// What of a policy lets something happen: a statement, and its action or its resource.
pub(crate) type Part = (String, String);

impl Policy {
    pub(crate) fn parse(text: &str) -> Self {
        let document: Value = serde_json::from_str(text).unwrap();
        let statements = document["Statement"].as_array().unwrap().iter().map(|statement| {
            // Whoever adds a Deny adds to what is compared.
            assert_eq!(statement["Effect"], "Allow", "{statement}");
            let known = ["Sid", "Effect", "Action", "Resource", "Condition"];
            assert!(statement.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{statement}");
            let conditions = statement["Condition"].as_object().into_iter().flatten().flat_map(|(operator, keys)| {
                let keys = keys.as_object().unwrap().iter();
                keys.map(move |(key, values)| (operator.clone(), key.clone(), list(values).into_iter().collect()))
            });
            Statement {
                sid: statement["Sid"].as_str().unwrap().to_owned(),
                actions: list(&statement["Action"]),
                resources: list(&statement["Resource"]),
                conditions: conditions.collect(),
            }
        });
        Self(statements.collect())
    }

    /// The statement, the action and the resource by which a question is answered with yes.
    pub(crate) fn allows(&self, asked: &Asked) -> Option<[Part; 2]> {
        self.0.iter().find_map(|statement| {
            let action = statement.actions.iter().find(|action| matches(action, &asked.action))?;
            let resource = statement.resources.iter().find(|resource| matches(resource, &asked.resource))?;
            let conditions = &statement.conditions;
            let holds =
                conditions.iter().all(|(operator, key, values)| holds(operator, asked.context.get(key), values));
            holds.then(|| [action, resource].map(|part| (statement.sid.clone(), part.clone())))
        })
    }

    /// Every action of every statement, and every resource.
    pub(crate) fn parts(&self) -> BTreeSet<Part> {
        let parts = self.0.iter().flat_map(|statement| {
            let parts = statement.actions.iter().chain(&statement.resources);
            parts.map(|part| (statement.sid.clone(), part.clone()))
        });
        parts.collect()
    }

    /// Without the statements of these names, each of which there is.
    pub(crate) fn without(mut self, sids: &[&str]) -> Self {
        for sid in sids {
            assert!(self.0.iter().any(|statement| statement.sid == *sid), "no {sid}");
        }
        self.0.retain(|statement| !sids.contains(&statement.sid.as_str()));
        self
    }

    /// The actions and resources of one statement.
    pub(crate) fn statement(&self, sid: &str) -> (&[String], &[String]) {
        let statement = self.0.iter().find(|statement| statement.sid == sid).unwrap();
        (&statement.actions, &statement.resources)
    }
}

/// A list of one may stand without its brackets.
fn list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(|item| item.as_str().unwrap().to_owned()).collect(),
        item => vec![item.as_str().unwrap().to_owned()],
    }
}

/// `*` is any number of characters, of any kind; `?` is one.
fn matches(pattern: &str, text: &str) -> bool {
    WildMatchPattern::<'*', '?'>::new(pattern).matches(text)
}

/// Whether a condition holds for what a request has under its key.
fn holds(operator: &str, has: Option<&BTreeSet<String>>, values: &BTreeSet<String>) -> bool {
    match operator {
        "StringEquals" | "ArnEquals" => has.is_some_and(|has| has.len() == 1 && has.is_subset(values)),
        "ArnLike" | "StringLike" => {
            has.is_some_and(|has| has.iter().all(|it| values.iter().any(|value| matches(value, it))))
        }
        "ForAllValues:StringEquals" => has.is_none_or(|has| has.is_subset(values)),
        "Null" => values.contains(if has.is_none() { "true" } else { "false" }),
        other => panic!("nobody has said what {other} means"),
    }
}

/// A question about what `access_key` calls in its own name, with nothing that a condition asks about.
pub(crate) fn asked(access_key: &str, call: &str, action: &str, resource: &str) -> Asked {
    Asked {
        access_key: access_key.to_owned(),
        role: None,
        call: call.to_owned(),
        action: action.to_owned(),
        resource: resource.to_owned(),
        context: BTreeMap::new(),
    }
}

/// What IAM is asked about a call of Step Functions or EventBridge in an account.
pub(crate) fn asked_of_service(account: &str, operation: &str, body: &Value) -> Vec<Asked> {
    let (service, call) = operation.split_once('.').unwrap();
    match service {
        "AWSStepFunctions" => {
            let names = ["executionArn", "stateMachineArn", "mapRunArn"];
            let resource = names.iter().find_map(|name| body[name].as_str()).unwrap();
            vec![asked(account, call, &format!("states:{call}"), resource)]
        }
        "AWSEvents" => {
            let entries = body["Entries"].as_array().unwrap().iter();
            let entries = entries.map(|entry| {
                let bus = entry["EventBusName"].as_str().unwrap_or("default");
                let context = [("events:source", "Source"), ("events:detail-type", "DetailType")]
                    .map(|(key, name)| (key.to_owned(), BTreeSet::from([entry[name].as_str().unwrap().to_owned()])));
                let bus = format!("arn:aws:events:{SOURCE}:{account}:event-bus/{bus}");
                Asked { context: BTreeMap::from(context), ..asked(account, call, &format!("events:{call}"), &bus) }
            });
            entries.collect()
        }
        other => panic!("{other} is a service that nobody knows"),
    }
}

/// As the local S3 tells it.
pub(crate) fn asked_of_bucket(question: &s3_local::Asked) -> Asked {
    asked(ACCOUNT, question.call, question.action, &question.resource)
}

/// As a call of S3 tells it.
pub(crate) fn asked_of_s3(call: &Call) -> Vec<Asked> {
    let (path, query) = call.uri.split_once('?').unwrap_or((&call.uri, ""));
    let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    let body = String::from_utf8_lossy(&call.body);
    let deleted = body.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>")).map(|(key, _)| key);
    let (name, action, keys) = match (call.operation.as_str(), key) {
        ("GET", "") => ("ListObjectsV2", "s3:ListBucket", Vec::new()),
        ("GET", key) => ("GetObject", "s3:GetObject", vec![key]),
        ("PUT", key) if !key.is_empty() => ("PutObject", "s3:PutObject", vec![key]),
        ("POST", "") if query.contains("delete") => ("DeleteObjects", "s3:DeleteObject", deleted.collect()),
        other => panic!("{other:?} is a call of S3 that nobody knows"),
    };
    let bucket = format!("arn:aws:s3:::{bucket}");
    let resources = if name == "ListObjectsV2" {
        vec![bucket]
    } else {
        keys.iter().map(|key| format!("{bucket}/{}", key.replace("%2F", "/"))).collect()
    };
    resources.iter().map(|resource| asked(&call.access_key, name, action, resource)).collect()
}

/// What Terraform would make: the attributes of each resource, by its address.
pub(crate) struct Planned(BTreeMap<String, Value>);

impl Planned {
    /// A module in an account, with these variables.
    pub(crate) async fn of(module: &str, account: &'static str, variables: &Value) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        // GetCallerIdentity, and ValidateStateMachineDefinition.
        let identity = format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Arn>arn:aws:iam::{account}:root</Arn><UserId>{account}</UserId><Account>{account}</Account>\
             </GetCallerIdentityResult></GetCallerIdentityResponse>"
        );
        let valid = json!({"result": "OK", "diagnostics": []}).to_string();
        let answer = async move |headers: HeaderMap| {
            let is_json = headers.contains_key("x-amz-target");
            let (content_type, body) = if is_json { ("application/json", &valid) } else { ("text/xml", &identity) };
            ([("content-type", content_type)], body.clone())
        };
        let router = Router::new().route("/", any(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let plan = local_stack::plan(module, SOURCE, variables, &endpoint).await.unwrap();
        let mut resources = BTreeMap::new();
        for resource in plan["planned_values"]["root_module"]["resources"].as_array().unwrap() {
            resources.insert(resource["address"].as_str().unwrap().to_owned(), resource["values"].clone());
        }
        Self(resources)
    }

    pub(crate) fn attribute(&self, address: &str, name: &str) -> &str {
        let values = self.0.get(address).unwrap_or_else(|| panic!("no {address} in {:?}", self.0.keys()));
        values[name].as_str().unwrap_or_else(|| panic!("{address} has no {name} before it is applied: {values}"))
    }

    pub(crate) fn policy(&self, address: &str) -> Policy {
        Policy::parse(self.attribute(address, "policy"))
    }

    /// The addresses of all resources of a type.
    pub(crate) fn all(&self, r#type: &str) -> impl Iterator<Item = &str> {
        let prefix = format!("{type}.");
        self.0.keys().map(String::as_str).filter(move |address| address.starts_with(&prefix))
    }
}

#[test]
fn a_policy_allows_what_its_statements_name_and_nothing_else() {
    let policy = json!({"Statement": [
        {"Sid": "Put", "Effect": "Allow", "Action": ["ecr:Put*"], "Resource": "arn:aws:ecr:*:1:repository/prod/*"},
        {"Sid": "Untag", "Effect": "Allow", "Action": "ecr:UntagResource", "Resource": "*", "Condition": {
            "ForAllValues:StringEquals": {"aws:TagKeys": ["mark"]}, "Null": {"aws:TagKeys": "false"},
        }},
        {"Sid": "Tell", "Effect": "Allow", "Action": "events:PutEvents", "Resource": "*", "Condition": {
            "StringEquals": {"events:source": ["one", "two"]},
        }},
    ]});
    let policy = Policy::parse(&policy.to_string());
    for (action, resource, context, sid) in [
        ("ecr:PutImage", "arn:aws:ecr:eu-west-1:1:repository/prod/a/b", None, Some("Put")),
        ("ecr:PutImage", "arn:aws:ecr:eu-west-1:2:repository/prod/a", None, None),
        ("ecr:PutImage", "arn:aws:ecr:eu-west-1:1:repository/test", None, None),
        ("ecr:GetImage", "arn:aws:ecr:eu-west-1:1:repository/prod/a", None, None),
        ("ecr:UntagResource", "any", None, None),
        ("ecr:UntagResource", "any", Some(("aws:TagKeys", &["mark"][..])), Some("Untag")),
        ("ecr:UntagResource", "any", Some(("aws:TagKeys", &["mark", "other"])), None),
        ("events:PutEvents", "any", Some(("events:source", &["two"])), Some("Tell")),
        ("events:PutEvents", "any", Some(("events:source", &["three"])), None),
        ("events:PutEvents", "any", None, None),
    ] {
        let context = context.map(|(key, values)| (key.to_owned(), values.iter().map(|it| (*it).to_owned()).collect()));
        let question = Asked { context: context.into_iter().collect(), ..asked("", "", action, resource) };
        let allowed = policy.allows(&question).map(|[(sid, _), _]| sid);
        assert_eq!(allowed.as_deref(), sid, "{question:?}");
    }
}
