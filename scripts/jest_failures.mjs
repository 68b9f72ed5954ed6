// Prints the numbers of passed and failed tests of a jest report, and appends each failure, with its message, to a file.
// A test file that could not run counts as one failure.
// Usage: node scripts/jest_failures.mjs REPORT.json LIST.txt
import {appendFileSync, readFileSync} from 'node:fs';
import {relative} from 'node:path';

const [reportPath, listPath] = process.argv.slice(2);
const report = JSON.parse(readFileSync(reportPath, 'utf8'));

// A message in jest's report has terminal colours.
const plain = text => text.replace(/\u001b\[[0-9;]*m/g, '').slice(0, 1500);

for (const file of report.testResults) {
  const path = relative(process.cwd(), file.name);
  const failed = file.assertionResults.filter(({status}) => status === 'failed');
  for (const {fullName, failureMessages} of failed) {
    appendFileSync(listPath, `== ${path}: ${fullName}\n${plain(failureMessages.join('\n'))}\n`);
  }
  if (file.status === 'failed' && failed.length === 0) appendFileSync(listPath, `== ${path}\n${plain(file.message)}\n`);
}
console.log(report.numPassedTests, report.numFailedTests + report.numRuntimeErrorTestSuites);
