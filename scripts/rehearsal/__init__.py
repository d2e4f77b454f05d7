"""Rehearsal of a deployment in an AWS emulator. scripts/rehearse-deployment.sh runs it.

MiniStack differs from AWS. What the rehearsal does about it:

- **CodeDeploy** does not exist. The alias `live` moves at once. With AWS, CodeDeploy first invokes the deployment hook;
  if that reports Failed, the alias stays and CloudFormation rolls the stack back. The rehearsal invokes the hook
  itself, for the live versions, with a stand-in for the two operations of CodeDeploy that it uses (`emulator.py`).
- **Alarms on expressions** are not supported. Each becomes one alarm for each of its metrics, so that their dimensions
  are checked (`stack.py`). No alarm is evaluated; scripts/check_alarms.py checks their arithmetic.
- **Routes and CORS** of an OpenAPI document are not imported. The rehearsal creates them from the document that SAM
  has produced (`stack.py`).
- **The gateway** differs in details, so some contract tests are skipped (`__main__.py`).
- **The WebSocket API** is served, but no protocol is selected, `connectedAt` is the time of each event, and the mapping
  of the stream ignores retries, bisection and partial responses. Its CloudFormation does not know route responses, so
  they are removed: it sends the response of every route to the client. It gives an authorizer without identity source
  the header Authorization as source, so the rehearsal sets an empty list (`stack.py`). docs/deploy.md compares it with
  AWS.
- **Parameters in SAM's transform, Fn::Join and Fn::Split in conditions, RestoreSummary and the type of
  DeletionProtectionEnabled of tables** are missing or wrong and are added to MiniStack (`ministack_server.py`).
- **A restored table** has the items of now, whatever the time of the restore is, and is ready at once.
- **TLS** does not exist. JwtJwksUrl allows http, and the policy of SAM's bucket, which requires TLS, is removed.
- **Permissions** of the functions, the hook and the deploying role are enforced, and effective at once. But
  CloudFormation creates resources without the permissions of its caller, so those of the deploying role are checked
  only for what `sam deploy` calls itself. scripts/check_deploy_role.py compares the others with the types of resources.
- **Parameters that have no effect in the emulator**: DeploymentType, because there is no CodeDeploy, LiveAccessLog, and
  the limits of requests and connections. They are deployed once, but only scripts/check_template.py compares the results. GatewayAuthorizer is not
  deployed, because the emulator does not import it, and Architecture is the one of this machine.
- **Secrets are not encrypted** by JwtSecretKmsKeyArn. Only the permission to decrypt is compared.
- **Functions** are processes of this machine, without Lambda's memory limit and operating system.
"""
